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
    )
    module.exports = Gate(throttles=[Throttle("org-exports", lambda scope: f"{scope['org']}/d", key="org")])
    sys.modules[module.__name__] = module
    with override_settings(VCACHE={"GATES": [f"{module.__name__}.ingest", f"{module.__name__}.exports"]}):
        yield module
    del sys.modules[module.__name__]


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("vcache_limits", *arguments, stdout=out, no_color=True)
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
    assert [line for line in run("--reset", *WORDS).splitlines() if line.startswith("reset")] == [
        line for line in printed.splitlines() if line.startswith("reset")
    ]
    found = json.loads(run(*WORDS, "--reset", "project", "--json"))
    assert found["reset"] == ["limits_of_a_shop.ingest: project"]


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
    assert run("--refund", receipt) == "refunded\n"
    assert gates.ingest.peek(SCOPE)[2].used == 0
    assert run("--refund", receipt) == "nothing to refund: that was done before\n"
    assert json.loads(run("--refund", receipt, "--json"))["refunded"] is False
    assert "refunded" in run(*WORDS, "--refund", gates.ingest.admit(SCOPE).receipt)


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
