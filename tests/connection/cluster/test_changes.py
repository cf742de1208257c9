"""A cluster that changes under load: slots move, primaries are demoted, killed and paused. What is planned fails no
call; nothing is executed twice; other nodes' calls go on."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.caches import make_cache
from support.clusters import Cluster
from support.counting import Counting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer, wait_until

from django_vcache.exceptions import ConnectionError

KEYS = 10
"""Counters on each node."""


@pytest.fixture
def redundant() -> Iterator[Cluster]:
    """Three primaries with a replica each, for one test."""
    with Cluster(replicas=1) as cluster:
        yield cluster


def prefixed(key: str) -> str:
    return f":1:{key}"


def keys_of(cluster: Cluster) -> list[list[str]]:
    return [[key.removeprefix(":1:") for key in keys] for keys in cluster.keys_of_each_node(KEYS, prefix=":1:c")]


def test_slots_that_move_fail_no_call(cluster: Cluster) -> None:
    with Counting(make_cache(cluster.url()), keys_of(cluster)) as load:
        for key in load.keys[0][:5]:
            cluster.move_slot(cluster.slot(prefixed(key)), cluster.nodes[1], keys=[prefixed(key)])
            load.goes_on()
    assert load.failures == []
    load.check()


def test_slots_that_move_at_once_fail_no_call(cluster: Cluster) -> None:
    with Counting(make_cache(cluster.url()), keys_of(cluster)) as load:
        for key in load.keys[1][:3]:
            slot = cluster.slot(prefixed(key))
            target = cluster.nodes[2]
            cluster.migrate(cluster.owner(slot), slot, slot, target)
            load.goes_on()
    assert load.failures == []
    load.check()


def test_calls_find_what_has_moved_already_of_a_slot_that_moves(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    old, new = ("{moves}old", "{moves}new")
    slot = cluster.slot("moves")
    source = cluster.owner(slot)
    target = next(node for node in cluster.nodes if node is not source)
    cache.set_many({old: 1, new: 2})
    cluster.begin_move(slot, target)
    source.execute("MIGRATE", "127.0.0.1", target.port, prefixed(new), 0, 5000)
    # One is here, the other there: the first pipeline is answered by both.
    assert cache.get(new) == 2
    assert cache.incr(new) == 3
    assert cache.set_many({old: 5, new: 6}) == []
    assert (cache.get(old), cache.get(new)) == (5, 6)
    # No node can answer this while the slot moves; the call waits for the end of it.
    ends = threading.Timer(
        0.3,
        lambda: (
            source.execute("MIGRATE", "127.0.0.1", target.port, prefixed(old), 0, 5000),
            cluster.end_move(slot, target),
        ),
    )
    ends.start()
    try:
        assert cache.get_many([old, new]) == {old: 5, new: 6}
    finally:
        ends.join()
    assert cache.get(old) == 5


@pytest.mark.parametrize("loop", LOOPS)
def test_a_blocking_command_goes_on_where_its_slot_went(cluster: Cluster, loop: str) -> None:
    cache = make_cache(cluster.url())
    key = f"{{blocks-{loop}}}"
    slot = cluster.slot(key)
    others = [node for node in cluster.nodes if node is not cluster.owner(slot)]

    def blocked(node: ValkeyServer) -> bool:
        return any("b" in client["flags"] for client in node.clients() if client.get("lib-name") == "vcache")

    async def wait_and_move(target: ValkeyServer) -> asyncio.Future[Any]:
        waits = asyncio.ensure_future(cache.aexecute("BLPOP", key, 60))
        source = cluster.owner(slot)
        await asyncio.to_thread(wait_until, lambda: blocked(source), what="a command that waits")
        await asyncio.to_thread(cluster.migrate, source, slot, slot, target)
        await asyncio.to_thread(wait_until, lambda: blocked(target), what="a command that waits elsewhere")
        return waits

    async def check() -> None:
        waits = await wait_and_move(others[0])
        await cache.aexecute("RPUSH", key, "first")
        assert await waits == [key.encode(), b"first"]
        # The next one finds a connection that leads to the right node, and follows once more.
        waits = await wait_and_move(others[1])
        # One that is given up takes nothing.
        waits.cancel()
        await asyncio.to_thread(wait_until, lambda: not blocked(others[1]), what="the end of the wait")
        await cache.aexecute("RPUSH", key, "second")
        assert await cache.aexecute("LRANGE", key, 0, -1) == [b"second"]

    with open_runner(loop) as runner:
        runner.run(check())


def test_a_planned_failover_fails_no_call(redundant: Cluster) -> None:
    with Counting(make_cache(redundant.url()), keys_of(redundant)) as load:
        for replica in redundant.nodes[3:5]:
            redundant.fail_over(replica)
            load.goes_on()
    assert load.failures == []
    load.check()


def test_a_primary_that_is_killed_is_replaced_and_other_nodes_go_on(redundant: Cluster) -> None:
    with Counting(make_cache(redundant.url()), keys_of(redundant)) as load:
        lost = set(load.keys[1])
        redundant.nodes[1].kill()
        wait_until(lambda: redundant.nodes[4].info("replication")["role"] == "master", what="a new primary")
        load.goes_on()
    assert {type(error) for error in load.failures} <= {ConnectionError}
    assert set(load.uncertain) <= lost
    # What was written just before the kill may not have reached the replica.
    load.check([load.keys[0], load.keys[2]])


def test_an_alias_that_was_idle_during_a_failover_works_at_once(redundant: Cluster, drive: Any) -> None:
    cache = drive(make_cache(redundant.url()))
    keys = [keys[0] for keys in keys_of(redundant)]
    cache.set_many(dict.fromkeys(keys, 1))
    wait_until(lambda: redundant.nodes[4].keys(), what="a copy")
    redundant.nodes[1].kill()
    wait_until(lambda: redundant.nodes[4].info("replication")["role"] == "master", what="a new primary")
    redundant.nodes[0].execute("PING")
    wait_until(
        lambda: all(
            str(redundant.nodes[4].port).encode() in node.execute("CLUSTER", "NODES") for node in redundant.alive
        ),  # type: ignore[operator]
    )
    redundant.wait_until_ok()
    assert [cache.get(key) for key in keys] == [1, 1, 1]


def test_a_node_that_hangs_does_not_hold_up_the_others(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url(), RESPONSE_TIMEOUT=20.0))
    keys = [keys[0] for keys in keys_of(cluster)]
    cache.set_many(dict.fromkeys(keys, 1))
    hangs = cluster.nodes[2]
    hangs.pause()
    try:
        assert [cache.get(key) for key in keys[:2]] == [1, 1]
    finally:
        hangs.resume()
    cluster.wait_until_ok()
    assert cache.get(keys[2]) == 1


def test_all_nodes_that_the_user_named_may_be_replaced(drive: Any) -> None:
    with Cluster() as cluster:
        cache = drive(make_cache(cluster.url(cluster.nodes[0])))
        cache.set("k", 1)
        seed, added = cluster.nodes[0], cluster.add_node()
        cluster.meet(added)
        cluster.wait_until_known()
        cluster.give_all_slots(seed, added)
        # The connection to it is what is left of what the user named.
        seed.kill()
        values = {f"after{number}": number for number in range(50)}
        assert cache.set_many(values) == []
        assert cache.get_many(values) == values


def test_a_cluster_that_is_down_fails_calls_within_their_time(drive: Any) -> None:
    with Cluster() as cluster:
        cache = drive(make_cache(cluster.url(), RESPONSE_TIMEOUT=0.5, CONNECT_TIMEOUT=0.5))
        cache.set("k", 1)
        for node in cluster.nodes:
            node.kill()
        for _ in range(3):
            with pytest.raises(ConnectionError, match=r"cannot connect to|was lost"):
                cache.get("k")


def test_a_server_that_stands_alone_is_not_taken_for_one(server: ValkeyServer, drive: Any) -> None:
    cache = drive(make_cache(server.tcp_url))
    cache.set("a", 1)
    cache.execute("MSET", "a", 1, "b", 2)
    cache.execute("SCAN", 0)
