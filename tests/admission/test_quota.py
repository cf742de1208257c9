"""`Quota` as Python has it: both forms, exactness, receipts and refunds, limits by callables, time zones, bad input."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")


def test_the_limit_is_taken_and_no_more(ask: Any) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 3, "month", key="org")
    for used in (1, 2, 3):
        decision = ask(quota, "consume", {"org": 1, "project": 2})
        assert decision
        [rule] = decision.rules
        assert (rule.name, rule.kind, rule.limit, rule.used, rule.remaining) == ("events", "quota", 3, used, 3 - used)
        assert 0 < rule.reset_after <= rule.window
        assert 28 * 86_400 <= rule.window <= 31 * 86_400
        assert decision.receipt.isascii()
        assert not re.search(r"\s", decision.receipt)
    refused = ask(quota, "consume", {"org": 1, "project": 3})
    assert not refused
    assert (refused.refused_by.rule, refused.refused_by.kind, refused.receipt) == ("events", "quota", None)
    assert refused.retry_after == pytest.approx(refused.rules[0].reset_after, abs=1)
    assert ask(quota, "consume", {"org": 2, "project": 2})


def test_the_key_names_the_entries(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota

    scope = {"org": 1, "project": 2}
    ask(Quota("a", 5, "day", key="org"), "consume", scope)
    ask(Quota("b", 5, "day", key="project"), "consume", scope)
    ask(Quota("c", 5, "day", key=["org", "project"]), "consume", scope)
    ask(Quota("d", 5, "day", key="org"), "consume", 9)
    keys = [re.sub(rb":d\d{10}$", b":d<start>", key) for key in server.keys("*")]
    assert keys == [
        b"vcache:2:{v00}:q:a:org=1:d<start>",
        b"vcache:2:{v00}:q:b:project=2:d<start>",
        b"vcache:2:{v00}:q:c:org=1:project=2:d<start>",
        b"vcache:2:{v00}:q:d:org=9:d<start>",
    ]


def test_peek_and_reset(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 10, "day", key="org")
    assert ask(quota, "peek", 1).used == 0
    assert server.keys() == []
    ask(quota, "consume", 1, 7)
    state = ask(quota, "peek", 1)
    assert (state.used, state.remaining, state.limit, state.burst) == (7, 3, 10, 10)
    assert ask(quota, "reset", 1) is True
    assert ask(quota, "reset", 1) is False
    assert ask(quota, "peek", 1).used == 0


def test_a_refund_is_given_once(ask: Any) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 10, "day", key="org")
    ask(quota, "consume", 1, 2)
    receipt = ask(quota, "consume", 1, 5).receipt
    refund = ask(quota, "refund", receipt)
    assert refund
    assert (refund.refunded, refund.used, repr(refund)) == (True, {"events": 2}, "<Refund>")
    again = ask(quota, "refund", receipt)
    assert not again
    assert (again.refunded, again.used, repr(again)) == (False, {"events": 2}, "<Refund of nothing>")
    assert ask(quota, "peek", 1).used == 2


def test_a_receipt_of_something_else_is_refused(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 10, "day", key="org")
    receipt = ask(quota, "consume", 1, 5).receipt
    before = server.execute("DUMP", server.keys()[0])
    other = Quota("exports", 10, "day", key="org")
    wrong = ["", "x", receipt[:-6], f"{receipt}.1", receipt.replace(".5.", ".-5.", 1), "é" * 20, receipt.upper() + "!"]
    for text in wrong:
        with pytest.raises(ValueError, match=rf'^"{re.escape(text[:40])}".* is not a receipt'):
            ask(quota, "refund", text)
    with pytest.raises(ValueError, match=r"the receipt is not of these quotas \(exports\)"):
        ask(other, "refund", receipt)
    for value in (None, 5, b"x"):
        with pytest.raises(TypeError, match="str"):
            ask(quota, "refund", value)
    assert server.execute("DUMP", server.keys()[0]) == before


def test_a_limit_may_be_a_callable_of_the_scope(ask: Any) -> None:
    from django_vcache.admission import Quota

    asked: list[Any] = []

    def limit(scope: Any) -> int | None:
        asked.append(scope)
        return {1: 1, 2: 2, 3: None}[scope["org"]]

    quota = Quota("org", limit, "day", key="org")
    assert [bool(ask(quota, "consume", {"org": 1})) for _ in range(2)] == [True, False]
    assert [bool(ask(quota, "consume", 2)) for _ in range(3)] == [True, True, False]
    assert all(ask(quota, "consume", 3) for _ in range(3))
    assert ask(quota, "peek", 3).remaining is None
    assert asked[0] == {"org": 1}


@pytest.mark.parametrize(
    ("limit", "error", "text"),
    [
        (lambda scope: "many", TypeError, "limit of the quota 'org' returned 'many'.*not str"),
        (lambda scope: 1.5, TypeError, "not float"),
        (lambda scope: True, TypeError, "not bool"),
        (lambda scope: -5, ValueError, "-5"),
        (lambda scope: 2**70, ValueError, "larger than can be counted"),
    ],
)
def test_a_callable_that_answers_no_limit_is_named(ask: Any, limit: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Quota

    with pytest.raises(error) as caught:
        ask(Quota("org", limit, "day", key="org"), "consume", 1)
    assert re.search(text, str(caught.value).replace('"', "'"))


def test_a_call_may_have_a_limit_of_its_own(ask: Any) -> None:
    from django_vcache.admission import Quota

    quota = Quota("org", 1, "day", key="org")
    assert ask(quota, "consume", 1)
    assert not ask(quota, "consume", 1)
    assert ask(quota, "consume", 1, limit=5)
    assert ask(quota, "peek", 1, limit=5).remaining == 3


def test_what_each_mode_does_at_the_limit(ask: Any) -> None:
    from django_vcache.admission import Quota

    def admitted(mode: Any) -> tuple[list[bool], int]:
        quota = Quota(f"m-{mode}", 5, "day", mode=mode, key="org")
        answers = [bool(ask(quota, "consume", 1, 3)) for _ in range(3)]
        return answers, ask(quota, "peek", 1).used

    assert admitted("strict") == ([True, False, False], 3)
    assert admitted("crossing") == ([True, True, False], 6)
    assert admitted("check_only") == ([True, True, True], 0)
    assert admitted("shadow") == ([True, True, True], 9)


def test_days_are_those_of_utc_unless_it_is_said(ask: Any) -> None:
    from datetime import UTC, datetime, timedelta

    from django_vcache.admission import Quota

    # As it is without what `patient` presets.
    original: Any = Quota.__base__
    state = ask(original("zone", 5, "day", key="org"), "peek", 1)
    end = datetime.now(UTC) + timedelta(seconds=state.reset_after + 30)
    assert (end.hour, end.minute) == (0, 0)


def test_windows_are_those_of_the_time_zone(ask: Any) -> None:
    from datetime import UTC, datetime, timedelta
    from zoneinfo import ZoneInfo

    from django_vcache.admission import Quota

    for name in ("UTC", "Asia/Kathmandu", "America/New_York"):
        state = ask(Quota("zone", 5, "day", timezone=name, key="org"), "peek", 1)
        # Counted in UTC: the sum of a zone's own time and a span is off by an hour where its clocks change in between.
        # Rounded, for the moments between the server's clock and this one.
        end = datetime.now(UTC) + timedelta(seconds=state.reset_after + 30)
        local = end.astimezone(ZoneInfo(name))
        assert (local.hour, local.minute) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (("a b", 5, "day"), {}, ValueError, '"a b" is not a name for a quota'),
        (("org", -2, "day"), {}, ValueError, "the limit of quota 'org' is -2: give 0 to"),
        (("org", 2**62, "day"), {}, ValueError, f"the limit of quota 'org' is {2**62}: give 0 to"),
        (("org", 2**70, "day"), {}, ValueError, f"limit.* {2**70} is larger than can be counted exactly"),
        (("org", "5", "day"), {}, TypeError, "a limit is an int, not str"),
        (("org", 5.0, "day"), {}, TypeError, "a limit is an int, not float"),
        (("org", True, "day"), {}, TypeError, "a limit is an int, not bool"),
        (("org", None, "day"), {}, TypeError, "a limit is an int, not NoneType"),
        (("org", 5, "week"), {}, ValueError, '"week" is not a quota\'s period: it is "hour", "day" or "month"'),
        (("org", 5, 86_400), {}, TypeError, r"\bint\b.*\bstr\b|\bstr\b.*\bint\b"),
        (("org", 5, "day"), {"timezone": "Mars/Olympus"}, ValueError, 'there is no time zone "Mars/Olympus"'),
        (("org", 5, "day"), {"mode": "loose"}, ValueError, '"loose" is not a quota\'s mode: it is "strict"'),
        (("org", 5, "day"), {"key": ["org", 5]}, TypeError, "each name of key must be a str, not int"),
        (("org", 5, "day"), {"keep": -1}, ValueError, "keep is -1: give seconds above 0"),
        (("org", 5, "day"), {"keep": "1"}, TypeError, "keep must be a number, not str"),
        (("org", 5, "day"), {"outage": "maybe"}, ValueError, '"maybe" is not an outage policy: it is "open"'),
        (("org", 5, "day"), {"burst": 5}, TypeError, 'no keyword "burst"; it has using'),
    ],
    ids=str,
)
def test_what_is_no_quota_is_an_error_when_it_is_made(arguments: Any, keywords: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Quota

    with pytest.raises(error, match=text):
        Quota(*arguments, **keywords)


@pytest.mark.parametrize(
    ("scope", "cost", "error", "text"),
    [
        ({}, 1, ValueError, "quota 'events' is keyed by \"org\", but the scope is empty"),
        (None, 1, TypeError, "a scope, or an int, str or UUID expected .*, not NoneType"),
        (1, -1, ValueError, "the cost is -1: give a whole number from 0"),
        (1, 2**62, ValueError, f"the cost is {2**62}: give a whole number from 0"),
        (1, "1", TypeError, "a cost is an int, not str"),
    ],
    ids=repr,
)
def test_what_cannot_be_charged_is_an_error_before_anything_is_sent(
    ask: Any, server: ValkeyServer, scope: Any, cost: Any, error: Any, text: str
) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 10, "day", key="org")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(error, match=text):
        ask(quota, "consume", scope, cost)
    assert "evalsha" not in server.command_counts()
    assert server.keys() == []


def test_tasks_and_threads_together_get_exactly_the_limit(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Quota

    quota = Quota("events", 500, "month", key="org")
    admitted: list[bool] = []

    def thread() -> None:
        admitted.extend(bool(quota.consume(1)) for _ in range(100))

    async def main() -> None:
        threads = [threading.Thread(target=thread) for _ in range(4)]
        for each in threads:
            each.start()
        admitted.extend(bool(decision) for decision in await asyncio.gather(*(quota.aconsume(1) for _ in range(400))))
        await asyncio.to_thread(lambda: [each.join() for each in threads])

    run(main())
    assert (len(admitted), sum(admitted)) == (800, 500)
    assert quota.peek(1).used == 500


DEAD = """
from django_vcache.admission import Quota

async def main():
    found = []
    for policy in ("open", "closed"):
        quota = Quota("events", 5, "day", outage=policy, key="org")
        for decision in (await quota.aconsume(1), quota.consume(1)):
            found.append([decision.allowed, decision.source, decision.status, decision.receipt])
    report(found)
    for call in (quota.peek, quota.reset):
        try:
            call(1)
        except exceptions.VcacheError as error:
            report(isinstance(error, (ConnectionError, TimeoutError)))

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_dead_server_is_the_outage_policys_and_there_is_no_receipt(loop: str) -> None:
    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    found, *raised = run_program(DEAD, {"default": setting}, loop)
    assert found == [[True, "outage", 200, None]] * 2 + [[False, "outage", 503, None]] * 2
    assert raised == [True, True]


def test_a_quota_may_be_subclassed_and_says_what_it_is(ask: Any) -> None:
    from django_vcache.admission import Quota

    class Monthly(Quota):
        def __new__(cls, name: str, limit: int) -> Monthly:
            return super().__new__(cls, name, limit, "month", "org")  # type: ignore[return-value]

    quota = Monthly("events", 1)
    assert (quota.name, quota.using, repr(quota)) == ("events", "default", "<Quota 'events' 1>")
    assert [bool(ask(quota, "consume", 1)) for _ in range(2)] == [True, False]
    assert quota.metrics()["admitted"] == 1
