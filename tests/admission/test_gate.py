"""`Gate` as Python has it: all of its parts in one round trip or none of them, in both forms; what goes in, what comes
out, a stream beside it, and what becomes of a call when the server is gone."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS
from support.limits import where_it_is_noon
from support.monitor import Monitor
from support.programs import run_program
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 42}


def make(**keywords: Any) -> Any:
    """The gate of the README, but slower: no unit is to flow back during a test."""
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    return Gate(
        throttles=[Throttle("org", "1000/d"), Throttle("project", "5/h", key=("org", "project"), burst=3)],
        quotas=[Quota("events", 10, "month")],
        stream=Stream("events", maxlen=1000),
        **keywords,
        owner="org",
    )


def state_of(server: ValkeyServer) -> dict[bytes, Any]:
    return {key: server.execute("DUMP", key) for key in server.keys("*")}


def test_all_is_decided_charged_and_written_in_one_round_trip(ask: Any, server: ValkeyServer) -> None:
    gate = make(deny_cache=False)
    # That one connects, and loads the script.
    ask(gate, "admit", {"org": 9, "project": 9})
    with Monitor(server) as monitor:
        decision = ask(gate, "admit", SCOPE, payload=b"body", cost=2, dedupe="e1")
        assert monitor.sent() == ["EVALSHA"]
        assert ask(gate, "admit", SCOPE, payload=b"body", cost=2, dedupe="e1").duplicate
        assert monitor.sent() == ["EVALSHA"]
        assert not ask(gate, "admit", SCOPE, payload=b"body", cost=2)
        assert monitor.sent() == ["EVALSHA"]
    assert decision
    assert re.fullmatch(r"\d+-\d+", decision.id)
    assert decision.receipt
    assert [(rule.name, rule.kind, rule.remaining) for rule in decision.rules] == [
        ("org", "throttle", 998),
        ("project", "throttle", 1),
        ("events", "quota", 8),
    ]
    [(entry, fields)] = server.execute("XRANGE", gate.stream.keys[0], "-", "+")
    assert entry.decode() == decision.id
    assert fields == [b"payload", b"body", b"org", b"1", b"project", b"42"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"x", bytearray(b"ab"), memoryview(b"abc"), "clé 🔑", bytes(range(256))],
    ids=lambda payload: type(payload).__name__,
)
def test_the_entry_holds_exactly_the_payload(ask: Any, server: ValkeyServer, payload: Any) -> None:
    gate = make()
    ask(gate, "admit", SCOPE, payload=payload)
    [(_, fields)] = server.execute("XRANGE", gate.stream.keys[0], "-", "+")
    assert fields[1] == (payload.encode() if isinstance(payload, str) else bytes(payload))


def test_a_refusal_names_the_rule_and_leaves_everything_as_it_was(ask: Any, server: ValkeyServer) -> None:
    gate = make(deny_cache=False)
    for _ in range(3):
        assert ask(gate, "admit", SCOPE, payload=b"x")
    before = state_of(server)
    refused = ask(gate, "admit", SCOPE, payload=b"x", dedupe="e2")
    assert not refused
    assert (refused.refused_by.rule, refused.refused_by.kind, refused.status) == ("project", "throttle", 429)
    assert (refused.id, refused.receipt, refused.duplicate) == (None, None, False)
    assert 0 < refused.retry_after <= 720
    assert state_of(server) == before
    # Another project of the organisation is not concerned.
    assert ask(gate, "admit", {"org": 1, "project": 43}, payload=b"x")


def test_a_duplicate_is_charged_once_and_answers_the_first_id(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    first = ask(gate, "admit", SCOPE, payload=b"x", dedupe="e1")
    before = state_of(server)
    again = ask(gate, "admit", SCOPE, payload=b"x", dedupe="e1")
    assert again.allowed
    assert again.duplicate
    assert (again.id, again.receipt) == (first.id, first.receipt)
    assert repr(again) == "<Decision duplicate by the server>"
    assert state_of(server) == before


def test_without_a_payload_nothing_is_written_to_the_stream(ask: Any) -> None:
    gate = make()
    decision = ask(gate, "admit", SCOPE)
    assert decision
    assert decision.id is None
    assert ask(gate.stream, "length") == 0


def test_a_refund_gives_back_to_the_quotas_once(ask: Any) -> None:
    gate = make()
    receipt = ask(gate, "admit", SCOPE, cost=3).receipt
    assert ask(gate, "peek", SCOPE)[2].used == 3
    refund = ask(gate, "refund", receipt)
    assert (bool(refund), refund.used) == (True, {"events": 0})
    assert not ask(gate, "refund", receipt)
    assert ask(gate, "peek", SCOPE)[2].used == 0
    with pytest.raises(ValueError, match=r'"made up" is not a receipt'):
        ask(gate, "refund", "made up")


def test_peek_charges_nothing_and_reset_forgets(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    assert [rule.remaining for rule in ask(gate, "peek", SCOPE)] == [1000, 3, 10]
    assert server.keys() == []
    ask(gate, "admit", SCOPE, cost=2)
    assert ask(gate, "reset", SCOPE, "project") == 1
    assert [rule.remaining for rule in ask(gate, "peek", SCOPE)] == [998, 3, 8]
    assert ask(gate, "reset", SCOPE) == 2
    assert ask(gate, "reset", SCOPE) == 0
    with pytest.raises(ValueError, match=r"no rule 'nothing'"):
        ask(gate, "reset", SCOPE, "nothing")


def test_limits_and_rates_are_callables_or_are_given_with_the_call(ask: Any) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    asked: list[tuple[str, Any]] = []

    def rate(scope: Any) -> str:
        asked.append(("rate", scope))
        return "2/h"

    def limit(scope: Any) -> int:
        asked.append(("limit", scope))
        return 3

    gate = Gate([Throttle("org", rate)], [Quota("events", limit, "day")], owner="org")
    assert [bool(ask(gate, "admit", SCOPE)) for _ in range(3)] == [True, True, False]
    assert asked[:2] == [("rate", SCOPE), ("limit", SCOPE)]
    asked.clear()
    assert ask(gate, "admit", SCOPE, rates={"org": "100/h"})
    assert [name for name, _ in asked] == ["limit"]
    refused = ask(gate, "admit", SCOPE, rates={"org": "100/h"})
    assert refused.refused_by.rule == "events"
    assert ask(gate, "admit", SCOPE, rates={"org": "100/h"}, limits={"events": 10})
    states = ask(gate, "peek", SCOPE, rates={"org": "100/h"}, limits={"events": 10})
    assert [rule.remaining for rule in states] == [96, 6]


def test_the_parts_keys_have_the_gates_prefix_and_shards(ask: Any, server: ValkeyServer) -> None:
    gate = make(prefix="shop", shards=16)
    for org in range(40):
        ask(gate, "admit", {"org": org, "project": org}, payload=b"x")
    tags = {key.decode().split(":")[2] for key in server.keys("*")}
    assert len(tags) > 8
    assert all(re.fullmatch(r"\{v\d\d\}", tag) for tag in tags)
    assert all(key.startswith(b"shop:2:{v") for key in server.keys("*"))
    stream = gate.stream
    assert (stream.name, stream.using, len(stream.keys), len(stream.dead_keys)) == ("events", "default", 16, 16)
    assert stream.keys[7] == "shop:2:{v07}:s:events"
    assert stream.dead_keys[7] == "shop:2:{v07}:s:events:dead"
    assert ask(stream, "length") == 40


def test_a_full_stream_refuses_and_nothing_is_charged(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota, Stream

    gate = Gate(quotas=[Quota("events", 100, "day")], stream=Stream("events", maxlen=3), owner="org")
    assert all(ask(gate, "admit", SCOPE, payload=b"x") for _ in range(3))
    before = state_of(server)
    refused = ask(gate, "admit", SCOPE, payload=b"x")
    assert (refused.allowed, refused.refused_by.rule, refused.refused_by.kind) == (False, "events", "stream")
    assert state_of(server) == before
    assert ask(gate, "admit", SCOPE)


def test_what_it_consists_of_is_told() -> None:
    from django_vcache.admission import Gate, Throttle

    gate = make()
    assert (gate.rules, gate.using, repr(gate)) == (
        ("org", "project", "events"),
        "default",
        "<Gate org, project, events>",
    )
    assert Gate([Throttle("org", "1/s")]).stream is None


def test_awaited_calls_may_be_cancelled(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Quota, Stream

    gate = Gate(quotas=[Quota("events", 100_000, "month")], stream=Stream("events"), owner="org")

    async def main() -> None:
        admitted = 0
        for turn in range(20):
            tasks = [asyncio.ensure_future(gate.aadmit(SCOPE, payload=b"x")) for _ in range(50)]
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            admitted += sum(not isinstance(result, asyncio.CancelledError) for result in results)
        # What was cancelled may have been admitted all the same; what is charged and what is written agree.
        [state] = await gate.apeek(SCOPE)
        assert admitted <= state.used <= 1000
        assert gate.stream is not None
        assert await gate.stream.alength() == state.used

    run(main())


DEAD = """
from django_vcache.admission import Gate, Quota, Stream, Throttle

def tell(decision):
    refused = decision.refused_by and [decision.refused_by.rule, decision.refused_by.kind]
    return [decision.allowed, decision.status, decision.id, refused]

parts = dict(
    throttles=[Throttle("org", "5/m"), Throttle("project", "5/m")],
    quotas=[Quota("events", 5, "day")],
    stream=Stream("events"),
    owner="org",
)
scope = {"org": 1, "project": 2}

async def main():
    gate = Gate(**parts)
    report([tell(await gate.aadmit(scope)), tell(gate.admit(scope))])
    report([tell(await gate.aadmit(scope, payload=b"x")), tell(gate.admit(scope, payload=b"x"))])
    closed = Gate(**{**parts, "throttles": [Throttle("org", "5/m"), Throttle("project", "5/m", outage="closed")]})
    report([tell(await closed.aadmit(scope)), tell(closed.admit(scope))])
    report(gate.metrics()["outages"])
    for call in (gate.peek, gate.reset, lambda scope: gate.stream.length()):
        try:
            call(scope)
        except exceptions.VcacheError as error:
            report(isinstance(error, (ConnectionError, TimeoutError)))

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_in_an_outage_a_payload_is_never_admitted(loop: str) -> None:
    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    open_, stored, closed, outages, *raised = run_program(DEAD, {"default": setting}, loop)
    assert open_ == [[True, 200, None, None]] * 2
    assert [(allowed, status, entry, refused[1]) for allowed, status, entry, refused in stored] == [
        (False, 503, None, "outage")
    ] * 2
    assert closed == [[False, 503, None, ["project", "outage"]]] * 2
    assert outages == 4
    assert raised == [True, True, True]


FORK = """
import warnings
# Forking with threads is what is tested here.
warnings.simplefilter("ignore", DeprecationWarning)
from django_vcache.admission import Gate, Quota, Stream

month = Quota("events", 150, "month", timezone=ZONE, key="org")
gate = Gate(quotas=[month], stream=Stream("events"), shards=4, deadline=None, owner="org")
scope = {"org": 1}

async def many():
    return sum(map(bool, await asyncio.gather(*(gate.aadmit(scope, payload=b"x") for _ in range(50)))))

run(many())
pipes = [os.pipe() for _ in range(3)]
children = []
for _, write in pipes:
    pid = os.fork()
    if pid == 0:
        asyncio._set_running_loop(None)
        os.write(write, str(run(many())).encode())
        os._exit(0)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
report([sum(int(os.read(read, 10)) for read, _ in pipes), gate.stream.length(), gate.peek(scope)[0].used])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_forked_children_share_the_quota(fresh_server: ValkeyServer, loop: str) -> None:
    source = f"ZONE = {where_it_is_noon()!r}\n{FORK}"
    assert run_program(source, {"default": cache_setting(fresh_server)}, loop) == [100, 150, 150]


def test_what_was_admitted_is_found_by_a_consumer(run: Any, default_alias: None) -> None:
    gate = make(shards=4)
    bodies = {f"event {number}".encode() for number in range(3)}
    assert all(gate.admit(SCOPE, payload=body) for body in bodies)

    async def main() -> set[bytes]:
        found: set[bytes] = set()
        consumer = gate.stream.consumer("billing", batch=10, max_wait=0.01, signals=())
        async for batch in consumer:
            found |= {entry.payload for entry in batch}
            assert {tuple(entry.fields.items()) for entry in batch} == {(("org", b"1"), ("project", b"42"))}
            if found == bodies:
                consumer.stop()
        return found

    assert run(main()) == bodies
    assert gate.stream.length() == 0
    with pytest.raises(TypeError, match="unexpected keyword argument 'batches'"):
        gate.stream.consumer("billing", batches=10)


def test_the_stream_that_was_given_to_a_gate_is_the_gates(server: ValkeyServer, default_alias: None) -> None:
    from django_vcache.admission import Gate, Stream

    stream = Stream("events", deadline=None)
    gate = Gate(stream=stream, shards=4, deadline=None, owner="org")
    assert stream.keys == gate.stream.keys == tuple(f"vcache:2:{{v0{shard}}}:s:events" for shard in range(4))
    for org in range(20):
        assert gate.admit({"org": org}, payload=b"x")
    assert stream.length() == 20
    Gate(stream=stream, shards=4, owner="org")
    with pytest.raises(ValueError, match="stream 'events' is a part of another gate"):
        Gate(stream=stream, shards=5, owner="org")


def test_a_stream_stands_alone_too(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Stream

    stream = Stream("events", maxlen=5)
    decision = ask(stream, "add", b"one", {"org": 1}, "e1")
    assert decision.id
    assert ask(stream, "add", "two", {"org": 1}, "e1").duplicate
    ids = ask(stream, "add_many", (text.encode() for text in ("a", "b", "c", "d", "e", "f")))
    assert [entry is None for entry in ids] == [False] * 4 + [True] * 2
    assert ask(stream, "add_many", []) == []
    assert ask(stream, "length") == 5
    refused = ask(stream, "add", b"x")
    assert (refused.allowed, refused.refused_by.kind, refused.id) == (False, "stream", None)
    entries = server.execute("XRANGE", stream.keys[0], "-", "+")
    assert [fields for _, fields in entries] == [
        [b"payload", b"one", b"org", b"1"],
        *[[b"payload", text] for text in (b"a", b"b", b"c", b"d")],
    ]
    trimmed = Stream("trimmed", maxlen=100, full="trim")
    assert None not in ask(trimmed, "add_many", [b"x"] * 1000, {"org": 1})
    assert 100 <= ask(trimmed, "length") <= 200


def test_the_alias_of_the_gate_is_used(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Throttle
    from django_vcache.backend import publish_alias

    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": locmem, "gates": cache_setting(server, DB=4)}):
        publish_alias("gates")
        assert ask(Gate([Throttle("org", "1/d")], using="gates"), "admit", SCOPE)
    assert server.info("keyspace")["db4"].startswith("keys=1")
