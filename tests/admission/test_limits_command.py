"""`manage.py vcache_limits`: the state of every rule as a table and as JSON, resets and refunds, and what it says when
it cannot."""

from __future__ import annotations

import io
import json
import re
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("default_alias", "patient")

Run = Callable[..., str]


@pytest.fixture
def gates(patient: None) -> Iterator[Any]:
    """Two gates in a module, both in the settings."""
    from django_vcache.admission import Gate, Quota, Throttle

    module: Any = types.ModuleType("limits_of_a_shop")
    module.ingest = Gate(
        throttles=[Throttle("org", "100/d"), Throttle("project", "1000/d", burst=200)],
        quotas=[Quota("events", 10_000, "month"), Quota("seen", -1, "day")],
        owner="org",
    )
    module.exports = Gate(throttles=[Throttle("org-exports", lambda scope: f"{scope['org']}/d", key="org")])
    sys.modules[module.__name__] = module
    with override_settings(VCACHE={"GATES": [f"{module.__name__}.ingest", f"{module.__name__}.exports"]}):
        yield module
    del sys.modules[module.__name__]


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("vcache_limits", *arguments, "--noinput", stdout=out, no_color=True)
    return out.getvalue()


SCOPE = {"org": 7, "project": 42}
WORDS = ("org=7", "project=42")


def test_every_rule_of_every_gate_is_in_the_table(gates: Any) -> None:
    gates.ingest.admit(SCOPE, cost=30)
    lines = run(*WORDS).splitlines()
    assert lines[0] == "limits_of_a_shop.ingest"
    assert lines[1].split() == ["RULE", "KIND", "LIMIT", "BURST", "USED", "REMAINING", "RESETS", "IN"]
    assert re.fullmatch(r"  org      throttle +100 / 1 d +100 +70 +7 h 12 min", lines[2])
    assert re.fullmatch(r"  project  throttle +1000 / 1 d +200 +170 +43 min", lines[3])
    assert re.fullmatch(r"  events   quota +10000 / \d+ d +30 +9970 +\d+ .*", lines[4])
    assert re.fullmatch(r"  seen     quota +unlimited +30 +\d+ .*", lines[5])
    assert lines[6] == "limits_of_a_shop.exports"
    # The rate is a callable of the scope, which has numbers where the application has them.
    assert re.fullmatch(r"  org-exports  throttle  7 / 1 d +7 +7 +0 s", lines[8])


def test_looking_charges_nothing(gates: Any, server: ValkeyServer) -> None:
    run(*WORDS)
    assert server.keys() == []


def test_json_has_what_the_table_has(gates: Any) -> None:
    gates.ingest.admit(SCOPE, cost=30)
    found = json.loads(run(*WORDS, "--json"))
    assert found["scope"] == SCOPE
    assert found["gates"].keys() == {"limits_of_a_shop.ingest", "limits_of_a_shop.exports"}
    org, project, events, seen = found["gates"]["limits_of_a_shop.ingest"]
    assert (org["name"], org["kind"], org["limit"], org["burst"], org["window"]) == (
        "org",
        "throttle",
        100,
        100,
        86_400,
    )
    assert (org["remaining"], project["burst"], project["remaining"]) == (70, 200, 170)
    assert (events["used"], events["remaining"], seen["used"], seen["remaining"]) == (30, 9970, 30, None)
    assert 25_000 < org["reset_after"] <= 25_920


def test_one_gate_is_named_by_its_path(gates: Any) -> None:
    assert "project" not in run("org=7", "--gate", "limits_of_a_shop.exports")
    with override_settings(VCACHE={}):
        assert "org-exports" in run("org=7", "--gate", "limits_of_a_shop.exports")


def test_all_rules_or_one_are_reset(gates: Any) -> None:
    gates.ingest.admit(SCOPE, cost=30)
    printed = run(*WORDS, "--reset", "org")
    assert printed.splitlines()[0] == "reset limits_of_a_shop.ingest: org"
    assert [rule.remaining for rule in gates.ingest.peek(SCOPE)] == [100, 170, 9970, None]
    printed = run(*WORDS, "--reset")
    assert [line for line in printed.splitlines() if line.startswith("reset")] == [
        "reset limits_of_a_shop.ingest: org",
        "reset limits_of_a_shop.ingest: project",
        "reset limits_of_a_shop.ingest: events",
        "reset limits_of_a_shop.ingest: seen",
        "reset limits_of_a_shop.exports: org-exports",
    ]
    assert [rule.remaining for rule in gates.ingest.peek(SCOPE)] == [100, 200, 10_000, None]
    alone = run("--reset", "org=7", "--gate", "limits_of_a_shop.exports").splitlines()
    assert alone[0] == "reset limits_of_a_shop.exports: org-exports"
    found = json.loads(run(*WORDS, "--reset", "project", "--json"))
    assert found["reset"] == ["limits_of_a_shop.ingest: project"]


def test_a_part_of_the_scope_that_stands_after_reset_is_an_error_and_resets_nobody(gates: Any) -> None:
    """It would be taken for the owner, and reset somebody else."""
    gates.ingest.admit(SCOPE, cost=30)
    gates.ingest.admit({"project": 42, "org": 7}, cost=30)
    for words in (("org=7", "--reset", "project=42"), ("--reset", "org=7", "project=42")):
        with pytest.raises(CommandError, match=r"names no rule.*before --reset, such as org=1 project=42 --reset"):
            run(*words)
    assert gates.ingest.peek(SCOPE)[0].remaining == 40
    run("--reset", "org=7 project=42")
    assert gates.ingest.peek(SCOPE)[0].remaining == 100


def test_another_scope_is_not_reset(gates: Any) -> None:
    other = {"org": 8, "project": 42}
    gates.ingest.admit(other, cost=30)
    run(*WORDS, "--reset", "org")
    assert gates.ingest.peek(other)[0].remaining == 70


def test_a_gate_by_other_entries_of_the_scope_does_not_hide_the_rest(gates: Any, capsys: Any) -> None:
    errors = io.StringIO()
    out = io.StringIO()
    call_command("vcache_limits", "org=7", stdout=out, stderr=errors, no_color=True)
    assert "limits_of_a_shop.exports" in out.getvalue()
    assert "limits_of_a_shop.ingest: " in errors.getvalue()
    assert "project" in errors.getvalue()
    assert "org-exports" in run("org=7", "--reset")
    assert "project" in run("org=7 project=42")


def test_a_receipt_is_refunded_once(gates: Any) -> None:
    receipt = gates.ingest.admit(SCOPE, cost=30).receipt
    assert run("--refund", receipt) == "refunded limits_of_a_shop.ingest\n"
    assert gates.ingest.peek(SCOPE)[2].used == 0
    assert run("--refund", receipt) == (
        "nothing to give back in limits_of_a_shop.ingest: it was refunded before, or is not counted any more\n"
    )
    told = json.loads(run("--refund", receipt, "--json"))
    assert (told["refunded"], told["refunded_by"]) == (False, "limits_of_a_shop.ingest")
    assert "refunded" in run(*WORDS, "--refund", gates.ingest.admit(SCOPE).receipt)


def test_a_receipt_that_may_be_of_several_servers_is_refunded_only_by_the_gate_that_is_named(
    gates: Any, server: ValkeyServer
) -> None:
    """A receipt does not say on which server it was given."""
    from django_vcache.admission import Gate, Quota
    from django_vcache.backend import publish_alias

    settings = {"default": cache_setting(server), "other": cache_setting(server, DB=1)}
    with override_settings(CACHES=settings):
        publish_alias("other")
        gates.here, gates.there = (
            Gate(quotas=[Quota("events", 100, "day")], using=alias, owner="org") for alias in settings
        )
        receipt = gates.there.admit({"org": 7}, cost=5).receipt
        gates.here.admit({"org": 7}, cost=5)
        with override_settings(VCACHE={"GATES": ["limits_of_a_shop.here", "limits_of_a_shop.there"]}):
            with pytest.raises(CommandError, match=r"here on 'default', .*there on 'other'.*--gate"):
                run("--refund", receipt)
            assert run("--refund", receipt, "--gate", "limits_of_a_shop.there") == "refunded limits_of_a_shop.there\n"
        assert [each.peek({"org": 7})[0].used for each in (gates.here, gates.there)] == [5, 0]


def test_what_was_done_is_told_also_if_looking_fails_afterwards(gates: Any) -> None:
    from django_vcache.admission import Gate, Quota
    from django_vcache.exceptions import ConnectionError

    def limit(scope: Any) -> int:
        if scope["org"] == 8:
            raise ConnectionError("gone")
        return 10

    gates.flaky = Gate(quotas=[Quota("events", limit, "day")], owner="org")
    words = ("--gate", "limits_of_a_shop.flaky", "org=8")
    receipt = gates.flaky.admit({"org": 7}).receipt
    out = io.StringIO()
    asked = (*words, "--reset", "events", "--refund", receipt, "--noinput")
    with pytest.raises(CommandError, match="the server could not be asked: gone"):
        call_command("vcache_limits", *asked, stdout=out, no_color=True)
    assert out.getvalue() == "refunded limits_of_a_shop.flaky\nreset limits_of_a_shop.flaky: events\n"
    out = io.StringIO()
    with pytest.raises(CommandError, match="the server could not be asked: gone"):
        call_command("vcache_limits", *words, "--reset", "--refund", receipt, "--json", "--noinput", stdout=out)
    assert json.loads(out.getvalue()) == {
        "scope": {"org": 8},
        "gates": {},
        "refunded": False,
        "refunded_by": "limits_of_a_shop.flaky",
        "reset": ["limits_of_a_shop.flaky: events"],
        "error": "the server could not be asked: gone",
    }
    out = io.StringIO()
    with pytest.raises(CommandError, match="gone"):
        call_command("vcache_limits", *words, "--json", stdout=out)
    assert out.getvalue() == ""


def test_a_limit_that_cannot_be_said_does_not_hide_the_other_gates(gates: Any) -> None:
    from django.core.exceptions import ObjectDoesNotExist

    from django_vcache.admission import Gate, Quota

    def missing(scope: Any) -> int:
        raise ObjectDoesNotExist("no such organisation")

    gates.missing = Gate(quotas=[Quota("events", missing, "day")], owner="org")
    gates.wordy = Gate(quotas=[Quota("events", lambda scope: "many", "day")], owner="org")  # type: ignore[arg-type,return-value]
    paths = [f"limits_of_a_shop.{name}" for name in ("missing", "wordy", "exports")]
    out, errors = io.StringIO(), io.StringIO()
    with override_settings(VCACHE={"GATES": paths}):
        call_command("vcache_limits", "org=7", stdout=out, stderr=errors, no_color=True)
    assert "org-exports" in out.getvalue()
    assert "limits_of_a_shop.missing: ObjectDoesNotExist: no such organisation" in errors.getvalue()
    assert "limits_of_a_shop.wordy: TypeError: " in errors.getvalue()
    with pytest.raises(CommandError, match="no such organisation"):
        run("org=7", "--gate", "limits_of_a_shop.missing")


def test_a_throttle_and_a_quota_that_stand_alone_are_shown_reset_and_refunded(gates: Any) -> None:
    from django_vcache.admission import Quota, Throttle

    gates.lookups, gates.mails = Throttle("org", "20/d", burst=10), Quota("mails", 100, "day", key="org")
    gates.lookups.check({"org": 7}, 4)
    receipt = gates.mails.consume({"org": 7}, 30).receipt
    with override_settings(VCACHE={"GATES": ["limits_of_a_shop.lookups", "limits_of_a_shop.mails"]}):
        lines = run("org=7").splitlines()
        assert [lines[0], lines[3]] == ["limits_of_a_shop.lookups", "limits_of_a_shop.mails"]
        assert re.fullmatch(r"  org   throttle  20 / 1 d +10 +6 .*", lines[2])
        assert re.fullmatch(r"  mails  quota +100 / 1 d +30 +70 .*", lines[5])
        assert run("--refund", receipt) == "refunded limits_of_a_shop.mails\n"
        assert gates.mails.peek({"org": 7}).used == 0
        assert run("org=7", "--reset", "org").startswith("reset limits_of_a_shop.lookups: org\n")
        assert gates.lookups.peek({"org": 7}).remaining == 10
    with pytest.raises(CommandError, match="a throttle gives no receipts"):
        run("--refund", receipt, "--gate", "limits_of_a_shop.lookups")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Give a scope, such as org=1"),
        (("--reset",), "Give a scope"),
        (("org",), "'org' is not NAME=VALUE"),
        (("=1",), "'=1' is not NAME=VALUE"),
        (("project=1",), "limits_of_a_shop.exports: "),
        (("project=1", "--reset"), "org"),
        (("org=7", "project=42", "--reset", "nothing"), "no rule is called 'nothing'; there are events, org"),
        (("--refund", "made up"), "no gate takes this receipt"),
        (("org=1", "--gate", "nowhere.gate"), "'nowhere.gate' cannot be imported"),
        (("org=1", "--gate", "os.path"), "is not a django_vcache.admission.Gate"),
    ],
    ids=str,
)
def test_a_mistake_is_an_error_that_says_what_to_give(gates: Any, arguments: tuple[str, ...], text: str) -> None:
    with pytest.raises(CommandError, match=re.escape(text)):
        run(*arguments)


def test_without_gates_it_says_where_to_list_them() -> None:
    with pytest.raises(CommandError, match=r"VCACHE\['GATES'\].*--gate"):
        run("org=1")
    with override_settings(VCACHE={"GATES": 5}), pytest.raises(CommandError, match=r"GATES.*list of dotted paths"):
        run("org=1")


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("org=1", 1),
        ("org=-1", -1),
        ("org=01", "01"),
        ("org=1.5", "1.5"),
        ("org=", ""),
        ("org=a=b", "a=b"),
        ("org=--1", "--1"),
        ("org=a b", "a b"),
    ],
)
def test_whole_numbers_are_numbers_and_the_rest_is_text(word: str, value: Any, gates: Any) -> None:
    from django_vcache.management.commands.vcache_limits import _scope

    assert _scope([word]) == {"org": value}


def test_a_server_that_is_gone_is_an_error_and_no_traceback() -> None:
    from django_vcache.admission import Gate, Throttle
    from django_vcache.backend import publish_alias

    module: Any = types.ModuleType("limits_of_the_gone")
    module.gate = Gate([Throttle("org", "1/s")], using="gone")
    sys.modules[module.__name__] = module
    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        with pytest.raises(CommandError, match="the server could not be asked"):
            run("org=1", "--gate", "limits_of_the_gone.gate")
    del sys.modules[module.__name__]
