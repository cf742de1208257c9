"""`costs=`, what each rule of a gate is charged, and `admit_many`, several admissions with one call."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.monitor import Monitor
from support.proxy import Proxy
from support.server import ValkeyServer, wait_until

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1}
NOWHERE = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "unix:///nowhere/valkey.sock"}


def make(**keywords: Any) -> Any:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    return Gate(
        throttles=[Throttle("calls", "10/d", key="org")],
        quotas=[Quota("events", 100, "month"), Quota("bytes", 10_000, "month")],
        stream=Stream("events", maxlen=1000),
        owner="org",
        **keywords,
    )


def left(decision: Any) -> list[int]:
    return [rule.remaining for rule in decision.rules]


def test_each_rule_is_charged_its_own(ask: Any) -> None:
    gate = make(deny_cache=False)
    decision = ask(gate, "admit", SCOPE, costs={"events": 20, "bytes": 5000})
    assert left(decision) == [9, 80, 5000]
    assert left(ask(gate, "admit", SCOPE, cost=2, costs={"bytes": 5000})) == [7, 78, 0]
    refused = ask(gate, "admit", SCOPE)
    assert not refused
    assert refused.refused_by.rule == "bytes"
    assert left(ask(gate, "admit", SCOPE, costs={"bytes": 0})) == [6, 77, 0], "it is left out"
    assert ask(gate, "refund", decision.receipt).used == {"events": 3, "bytes": 5000}
    assert [rule.used for rule in ask(gate, "peek", SCOPE)] == [0, 3, 5000]


@pytest.mark.parametrize(
    ("costs", "error", "told"),
    [
        (
            {"byte": 1},
            ValueError,
            'there is a cost for "byte", and no rule of that name: there are calls, events, bytes',
        ),
        ({"bytes": -1}, ValueError, 'the cost of "bytes" is -1'),
        ({"bytes": 2**70}, ValueError, "from 0 to 2"),
        ({"bytes": 1.5}, TypeError, "a cost is an int, not float"),
        ({"bytes": True}, TypeError, "a cost is an int, not bool"),
        ({1: 1}, TypeError, "str"),
        ([("bytes", 1)], TypeError, "dict"),
    ],
)
def test_costs_that_are_none_are_told(ask: Any, server: ValkeyServer, costs: Any, error: Any, told: str) -> None:
    gate = make()
    with pytest.raises(error, match=told):
        ask(gate, "admit", SCOPE, costs=costs)
    with pytest.raises(error, match=told):
        ask(gate, "admit_many", [{"scope": SCOPE, "payload": b"x"}, {"scope": SCOPE, "costs": costs}])
    assert server.keys() == []


def test_many_are_decided_each_by_itself_and_in_order(ask: Any, server: ValkeyServer) -> None:
    gate = make(deny_cache=False)
    ask(gate, "admit", {"org": 9})
    asked = [
        {"scope": {"org": 1}, "payload": b"a", "costs": {"bytes": 9000}, "dedupe": "a"},
        {"scope": {"org": 2}, "payload": "b", "costs": {"bytes": 9000}},
        {"scope": {"org": 1}, "payload": b"c", "costs": {"bytes": 9000}},
        {"scope": {"org": 1}, "payload": b"a", "costs": {"bytes": 9000}, "dedupe": "a"},
        {"scope": {"org": 3}, "cost": 2, "limits": {"events": 1}},
        {"scope": {"org": 4}, "cost": 2, "rates": {"calls": "1/h"}},
    ]
    with Monitor(server) as monitor:
        decisions = ask(gate, "admit_many", asked)
        assert monitor.sent() == ["EVALSHA"] * len(asked)
    assert isinstance(decisions, list)
    assert [decision.allowed for decision in decisions] == [True, True, False, True, False, False]
    assert decisions[3].duplicate
    assert decisions[3].id == decisions[0].id
    assert [decision.refused_by and decision.refused_by.rule for decision in decisions[2:]] == [
        "bytes",
        None,
        "events",
        "calls",
    ]
    entries = server.execute("XRANGE", gate.stream.keys[0], "-", "+")
    assert isinstance(entries, list)
    assert [fields[1] for _, fields in entries] == [b"a", b"b"]
    assert ask(gate, "admit_many", []) == []
    assert ask(gate, "admit_many", (each for each in asked[:1]))[0].duplicate


def test_a_large_batch_is_decided_by_the_server_to_its_end(ask: Any) -> None:
    """Those at its end do not run out of time because of those in front, whatever the limits' deadline."""
    from django_vcache.admission import Gate, Quota

    gate = Gate(quotas=[Quota("events", 50, "month")], owner="org", deadline=5.0, deny_cache=False)
    decisions = ask(gate, "admit_many", ({"scope": {"org": 1}} for _ in range(5000)))
    assert len(decisions) == 5000
    assert [decision.allowed for decision in decisions] == [True] * 50 + [False] * 4950
    assert {decision.source for decision in decisions} == {"server"}


# It counts commands in the bytes that are sent.
@pytest.mark.plain_server
@pytest.mark.parametrize(("size", "count", "most"), [(1, 300, 128), (100_000, 9, 3)])
def test_so_many_are_under_way_at_once(fresh_server: ValkeyServer, size: int, count: int, most: int) -> None:
    with Proxy(fresh_server) as proxy:
        setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0) | {"LOCATION": proxy.url}
        with override_settings(CACHES={"default": setting}), ThreadPoolExecutor(1) as pool:
            gate = make(deny_cache=False)
            # It teaches the server the script.
            gate.admit({"org": 0})
            sent = proxy.lines[0].sent
            before = sent.count(b"EVALSHA")

            def asked() -> int:
                return sent.count(b"EVALSHA") - before

            fresh_server.pause()
            batch = pool.submit(
                gate.admit_many, [{"scope": {"org": org}, "payload": b"x" * size} for org in range(count)]
            )
            wait_until(lambda: asked() >= most)
            # More would come now.
            threading.Event().wait(0.2)
            assert asked() == most
            fresh_server.resume()
            assert [decision.allowed for decision in batch.result(60)] == [True] * count


def test_costs_where_the_server_counts_no_rule(ask: Any) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    gate = Gate(
        [Throttle("free", lambda scope: None, key="org"), Throttle("shut", "0/s", key="org")],
        stream=Stream("events"),
        owner="org",
    )
    free = {"free": 5, "shut": 0}
    assert ask(gate, "admit", SCOPE, payload=b"x", costs=free).id
    assert ask(gate, "admit", SCOPE, payload=b"x", costs={"free": 0, "shut": 0}).id
    assert not ask(gate, "admit", SCOPE, dedupe="a", costs=free).duplicate
    assert ask(gate, "admit", SCOPE, dedupe="a", costs=free).duplicate
    assert len(ask(gate, "admit_many", [{"scope": SCOPE, "payload": b"x", "costs": free}] * 2)) == 2
    assert ask(gate.stream, "length") == 4


@pytest.mark.parametrize(
    ("admissions", "told"),
    [
        ([{"payload": b"x"}], "no .scope."),
        ([{"scope": SCOPE, "payloads": b"x"}], 'no "payloads"; it has scope, payload, cost'),
        ([SCOPE], 'no "org"'),
        ([1], "takes a list of mappings"),
        (["abc"], "takes a list of mappings"),
        (1, "not iterable"),
        ([{"scope": 1}], "a scope expected"),
        ([{"scope": SCOPE, "cost": "1"}], "a cost is an int"),
        ([{"scope": SCOPE, "payload": 1}], "payload|bytes"),
    ],
)
def test_what_is_no_admission_is_told(ask: Any, server: ValkeyServer, admissions: Any, told: str) -> None:
    gate = make()
    with pytest.raises(TypeError, match=told):
        ask(gate, "admit_many", admissions)
    assert server.keys() == []


def test_what_is_wrong_with_one_is_told_before_any_is_sent(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    for wrong in (
        {"scope": {"project": 1}},
        {"scope": SCOPE, "payload": b"x" * 2_000_000},
        {"scope": {"org": "a b" * 999}},
    ):
        with pytest.raises(ValueError, match=r"org|payload"):
            ask(gate, "admit_many", [{"scope": SCOPE, "payload": b"x"}, wrong])
    assert server.keys() == []


@pytest.mark.parametrize("policy", ["open", "closed", "raise"])
def test_without_a_server_each_is_decided_by_the_policy(ask: Any, policy: str) -> None:
    from django_vcache.exceptions import ConnectionError as Lost

    with override_settings(CACHES={"default": NOWHERE}):
        gate = make(outage=policy)
        asked = [{"scope": SCOPE}, {"scope": SCOPE, "payload": b"x"}]
        if policy == "raise":
            with pytest.raises(Lost):
                ask(gate, "admit_many", asked)
            return
        decisions = ask(gate, "admit_many", asked)
        # An event that is not stored is not admitted.
        assert [decision.allowed for decision in decisions] == [policy == "open", False]
        assert [decision.status for decision in decisions] == [200 if policy == "open" else 503, 503]


def test_switched_off_they_are_admitted_and_events_are_stored(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    asked = [{"scope": SCOPE, "payload": b"%d" % number, "costs": {"bytes": 9000}} for number in range(3)]
    with override_settings(VCACHE={"ENABLED": False}):
        with pytest.raises(ValueError, match="byte"):
            ask(gate, "admit_many", [*asked, {"scope": SCOPE, "costs": {"byte": 1}}])
        assert ask(gate.stream, "length") == 0
        decisions = ask(gate, "admit_many", asked)
    assert [decision.allowed for decision in decisions] == [True] * 3
    assert ask(gate.stream, "length") == 3
    assert [rule.used for rule in ask(gate, "peek", SCOPE)] == [0, 0, 0]


@pytest.mark.parametrize("loop", LOOPS)
def test_they_are_asked_when_they_are_awaited(loop: str, server: ValkeyServer) -> None:
    with override_settings(CACHES={"default": cache_setting(server)}), open_runner(loop) as runner:
        gate = make()

        async def dropped() -> None:
            with pytest.warns(RuntimeWarning, match=r"Gate\.aadmit_many"):
                gate.aadmit_many([{"scope": SCOPE, "payload": b"x"}])

        async def cancelled() -> None:
            task = asyncio.create_task(gate.aadmit_many([{"scope": SCOPE, "payload": b"x"}]))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        runner.run(dropped())
        runner.run(cancelled())
        assert server.keys() == []

        async def several() -> Any:
            lists = await asyncio.gather(*(gate.aadmit_many([{"scope": {"org": org}}] * 3) for org in range(20)))
            return [left(decision) for decisions in lists for decision in decisions]

        assert runner.run(several()) == [[9, 99, 9999], [8, 98, 9998], [7, 97, 9997]] * 20
