"""Limits, gates and streams on a cluster: whatever a call asks of the server is of one owner, or is asked shard by
shard, so none of it is refused for its keys being in several slots. The cluster is a real one, of one node that has all
slots.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.resp import ServerError
from support.server import ValkeyServer, wait_until
from support.streams import Form

pytestmark = pytest.mark.usefixtures("patient")

ORGS = range(40)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    """In place of the session's server, so that the default alias is on the cluster. It is empty when a test begins."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bus = probe.getsockname()[1]
    # The port of the bus is 10000 above the server's unless told otherwise, which may be above all ports.
    with ValkeyServer(cluster_enabled="yes", cluster_port=bus) as server:
        server.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in server.execute("CLUSTER", "INFO"), timeout=60, what="a cluster")
        yield server


def make() -> Any:
    """A gate of all kinds of parts. No unit flows back during a test."""
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    return Gate(
        throttles=[
            Throttle("org", "1000/d"),
            Throttle("project", "500/d", key=("org", "project"), burst=20),
            Throttle("ip", "100/d", key=("ip", "org")),
        ],
        quotas=[Quota("events", 10, "month"), Quota("bytes", 1000, "day", key=("org", "project"))],
        stream=Stream("events", maxlen=10_000),
        shards=16,
        owner="org",
    )


def scope_of(org: int) -> dict[str, int | str]:
    return {"org": org, "project": 100 + org, "ip": f"10.0.0.{org}"}


def slots(server: ValkeyServer) -> set[Any]:
    """The slots of all keys that there are."""
    keys = server.keys()
    return {server.execute("CLUSTER", "KEYSLOT", key) for key in keys}


def test_it_is_a_cluster(server: ValkeyServer) -> None:
    """Keys of two shards are refused in one command."""
    with pytest.raises(ServerError, match=r"^CROSSSLOT"):
        server.execute("DEL", "vcache:2:{v00}:q:events", "vcache:2:{v01}:q:events")


def test_a_gate_decides_for_owners_of_all_shards(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    decisions = [ask(gate, "admit", scope_of(org), payload=b"x", cost=2, dedupe="e1") for org in ORGS]
    assert all(decision.allowed and decision.source == "server" for decision in decisions)
    assert {tuple(rule.remaining for rule in decision.rules) for decision in decisions} == {(998, 18, 98, 8, 998)}
    assert len(slots(server)) > 8
    # An id is its owner's.
    again = [ask(gate, "admit", scope_of(org), payload=b"x", cost=2, dedupe="e1") for org in ORGS]
    assert all(decision.duplicate for decision in again)
    assert [(decision.id, decision.receipt) for decision in again] == [
        (decision.id, decision.receipt) for decision in decisions
    ]
    assert ask(gate.stream, "length") == len(ORGS)
    refused = ask(gate, "admit", scope_of(7), payload=b"x", cost=9)
    assert (refused.allowed, refused.refused_by.rule, refused.source) == (False, "events", "server")
    assert ask(gate.stream, "length") == len(ORGS)


def test_a_gate_shows_refunds_and_forgets(ask: Any, server: ValkeyServer) -> None:
    gate = make()
    for org in ORGS:
        scope = scope_of(org)
        receipt = ask(gate, "admit", scope, cost=3).receipt
        assert [rule.remaining for rule in ask(gate, "peek", scope)] == [997, 17, 97, 7, 997]
        refund = ask(gate, "refund", receipt)
        assert (bool(refund), refund.used) == (True, {"events": 0, "bytes": 0})
        assert not ask(gate, "refund", receipt)
        assert [rule.remaining for rule in ask(gate, "peek", scope)] == [997, 17, 97, 10, 1000]
        assert ask(gate, "reset", scope, "ip") == 1
        assert ask(gate, "reset", scope) == 4
        assert [rule.remaining for rule in ask(gate, "peek", scope)] == [1000, 20, 100, 10, 1000]
    assert len(slots(server)) > 8


@pytest.mark.parametrize("shards", [1, 16])
def test_a_throttle_stands_alone(ask: Any, shards: int) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("api", "2/h", shards=shards)
    for client in ORGS:
        assert [ask(throttle, "check", client).allowed for _ in range(3)] == [True, True, False]
        assert ask(throttle, "peek", client).remaining == 0
        assert ask(throttle, "reset", client)
        assert not ask(throttle, "reset", client)
        assert ask(throttle, "check", client)


@pytest.mark.parametrize("shards", [1, 16])
def test_a_quota_stands_alone(ask: Any, shards: int) -> None:
    from django_vcache.admission import Quota

    quota = Quota("exports", 3, "month", shards=shards, key="org")
    for org in ORGS:
        decision = ask(quota, "consume", org, 3)
        assert decision
        assert not ask(quota, "consume", org)
        assert ask(quota, "peek", org).used == 3
        assert ask(quota, "refund", decision.receipt)
        assert not ask(quota, "refund", decision.receipt)
        assert ask(quota, "consume", org, 2)
        assert ask(quota, "reset", org)
        assert ask(quota, "peek", org).used == 0


@pytest.mark.parametrize("maxlen", [None, 1000])
@pytest.mark.parametrize("full", ["refuse", "trim"])
def test_a_stream_stands_alone(ask: Any, server: ValkeyServer, maxlen: int | None, full: Any) -> None:
    from django_vcache.admission import Stream

    stream = Stream("mails", maxlen, full, shards=16, owner="org")
    for org in ORGS:
        decision = ask(stream, "add", b"one", {"org": org}, "m1")
        assert decision.id
        again = ask(stream, "add", b"one", {"org": org}, "m1")
        assert (again.duplicate, again.id) == (True, decision.id)
        ids = ask(stream, "add_many", [b"two", b"three"], {"org": org})
        assert None not in ids
    assert len(slots(server)) > 8
    ids = ask(stream, "add_many", [b"of nobody"] * 50)
    assert None not in ids
    assert len(ids) == 50
    assert ask(stream, "length") == 3 * len(ORGS) + 50


def test_a_consumer_finds_what_was_admitted_and_its_dead_letters_are_looked_after(
    form: Form, server: ValkeyServer, default_alias: None
) -> None:
    from django_vcache.admission import streams

    gate = make()
    for org in ORGS:
        assert gate.admit(scope_of(org), payload=f"event of {org}")
    assert gate.stream is not None
    consumer = gate.stream.consumer("billing", batch=10, max_wait=0.02, signals=())
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if broken := [entry for entry in batch if entry.payload in (b"event of 3", b"event of 4")]:
            await form.say(batch, "reject", broken, reason="broken")
        if len(seen) == len(ORGS):
            # That is an entry for a consumer that has read to the end.
            late = threading.Thread(target=lambda: gate.admit(scope_of(1), payload="late"))
            late.start()
            late.join()
        if len(seen) > len(ORGS):
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(entry.payload for entry in seen) == sorted([*(f"event of {org}".encode() for org in ORGS), b"late"])
    assert {entry.fields["org"] for entry in seen} == {str(org).encode() for org in ORGS}
    assert len({entry.shard for entry in seen}) > 8
    state = streams.state(gate.stream)
    assert (state.shards, state.depth, state.dead) == (16, 0, 2)
    [group] = state.groups
    assert (group.name, group.pending, group.consumers) == ("billing", 0, [])
    letters = streams.dead_letters(gate.stream)
    assert {(letter.payload, letter.reason) for letter in letters} == {
        (b"event of 3", "broken"),
        (b"event of 4", "broken"),
    }
    assert streams.requeue(gate.stream, [letters[0].id]) == 1
    assert streams.requeue(gate.stream) == 1
    assert (gate.stream.length(), streams.dead_letters(gate.stream)) == (2, [])
