"""Calls to a cluster go to the nodes that have their keys: one connection to each, however many keys, slots, threads
and loops there are. What a cluster cannot do is refused before anything is sent."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import pytest
from support.caches import make_cache
from support.clusters import Cluster
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer

from django_vcache.exceptions import ConfigurationError, ConnectionError, ResponseError

MANY = {f"many{number}": number for number in range(60)}


def test_one_node_leads_to_all_and_each_has_one_connection(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url(cluster.nodes[1]), CLIENT_NAME="alone"))
    for keys in cluster.keys_of_each_node():
        cache.set(keys[0], keys[0])
        assert cache.get(keys[0]) == keys[0]
    names = [[client["name"] for client in node.clients()].count("alone") for node in cluster.nodes]
    assert names == [1, 1, 1]


def test_one_operation_on_keys_of_all_nodes(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    assert cache.set_many(MANY) == []
    assert all(node.keys() for node in cluster.nodes)
    assert cache.get_many([*MANY, "none"]) == MANY
    cache.delete_many([f"many{number}" for number in range(50)])
    assert cache.get_many(MANY) == {f"many{number}": number for number in range(50, 60)}
    cache.clear()
    assert not any(node.keys() for node in cluster.nodes)


def test_a_prefix_is_cleared_on_all_nodes(cluster: Cluster, drive: Any) -> None:
    ours = drive(make_cache(cluster.url(), KEY_PREFIX="ours", CLEAR="prefix"))
    theirs = drive(make_cache(cluster.url(), KEY_PREFIX="theirs"))
    for cache in (ours, theirs):
        cache.set_many(MANY)
    ours.clear()
    assert (ours.get_many(MANY), theirs.get_many(MANY)) == ({}, MANY)


def test_a_version_is_moved_to_another_slot_with_its_time_to_live(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    for number in range(20):
        key = f"v{number}"
        cache.set(key, [number], timeout=1000)
        assert cache.incr_version(key) == 2
        assert (cache.get(key), cache.get(key, version=2)) == (None, [number])
        assert 900_000 < cluster.owner(f":2:{key}").execute("PTTL", f":2:{key}") <= 1_000_000  # type: ignore[operator]
    cache.set("forever", 1, timeout=None)
    cache.incr_version("forever")
    assert cluster.owner(":2:forever").execute("PTTL", ":2:forever") == -1
    with pytest.raises(ValueError, match="'missing' not found"):
        cache.incr_version("missing")


def test_what_is_for_all_data_is_asked_of_all_nodes(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    cache.set_many(MANY)
    assert cache.execute("DBSIZE") == 60
    assert len(cache.execute("KEYS", "*")) == 60
    sha = cache.execute("SCRIPT", "LOAD", "return 1")
    assert [node.execute("SCRIPT", "EXISTS", sha) for node in cluster.nodes] == [[1]] * 3
    assert cache.execute("SCRIPT", "EXISTS", sha, "0" * 40) == [1, 0]
    cache.execute("FLUSHDB")
    assert not any(node.keys() for node in cluster.nodes)


def test_what_a_cluster_cannot_do_is_refused_with_both_keys(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    cache.set("a", 1)
    for node in cluster.nodes:
        node.execute("CONFIG", "RESETSTAT")
    for command in (
        ("RENAME", "a", "b"),
        ("MSET", "a", 1, "b", 2),
        ("SINTER", "a", "b"),
        ("EVAL", "return 1", 2, "a", "b"),
        ("BLPOP", "a", "b", 1),
    ):
        with pytest.raises(ResponseError, match=r"two slots, 'a' and 'b'.*\{user:5\}:name") as caught:
            cache.execute(*command)
        assert caught.value.code == "CROSSSLOT"
    with pytest.raises(ValueError, match="SCAN walks through one server"):
        cache.execute("SCAN", 0)
    sent = {name for node in cluster.nodes for name in node.command_counts()}
    assert not sent & {"rename", "mset", "sinter", "eval", "scan", "blpop"}


def test_commands_without_a_key_and_of_later_servers_find_a_node(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url()))
    assert cache.execute("PING") in (b"PONG", "PONG")
    assert cache.execute("EVAL", "return 5", 0) == 5
    # Its keys are not known here: the nodes say where it belongs.
    for keys in cluster.keys_of_each_node(prefix="u"):
        with pytest.raises(ResponseError, match="unknown command"):
            cache.execute("UNHEARDOF", keys[0])


def test_a_database_other_than_0(cluster: Cluster, drive: Any) -> None:
    first, second = (drive(make_cache(f"{cluster.url()}/{db}")) for db in (0, 2))
    second.set_many(MANY)
    assert first.get_many(MANY) == {}
    first.clear()
    assert second.get_many(MANY) == MANY
    with pytest.raises(ConnectionError, match="SELECT 7 was refused"):
        drive(make_cache(f"{cluster.url()}/7")).get("k")


@pytest.mark.parametrize("loop", LOOPS)
def test_blocking_commands_wait_at_the_node_of_their_key(cluster: Cluster, loop: str) -> None:
    cache = make_cache(cluster.url())
    lists = [keys[0] for keys in cluster.keys_of_each_node(prefix="list")]
    names = [f"{{{name}}}" for name in lists]

    async def both(name: str) -> Any:
        waits = asyncio.ensure_future(cache.aexecute("BLPOP", name, 30))
        await asyncio.sleep(0.01)
        await cache.aexecute("RPUSH", name, "x")
        return await waits

    async def all_of_them() -> Any:
        return [await both(name) for name in names for _ in range(2)]

    with open_runner(loop) as runner:
        assert runner.run(all_of_them()) == [[name.encode(), b"x"] for name in names for _ in range(2)]


def test_a_blocking_command_may_be_the_first_call(cluster: Cluster, drive: Any) -> None:
    for keys in cluster.keys_of_each_node(prefix="first"):
        cluster.owner(keys[0]).execute("RPUSH", keys[0], "x")
        cache = drive(make_cache(cluster.url(), CLIENT_NAME=f"first-{keys[0]}"))
        assert cache.execute("BLPOP", keys[0], 30) == [keys[0].encode(), b"x"]


def test_threads_and_loops_share_the_connections(cluster: Cluster) -> None:
    cache = make_cache(cluster.url(), CLIENT_NAME="shared")
    together = threading.Barrier(6)
    failures: list[Any] = []

    def check(number: int) -> None:
        together.wait()
        for turn in range(30):
            mine = {f"t{number}-{key}": turn for key in range(10)}
            cache.set_many(mine)
            if cache.get_many(mine) != mine:
                failures.append((number, turn))

    threads = [threading.Thread(target=check, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [[client["name"] for client in node.clients()].count("shared") for node in cluster.nodes] == [1, 1, 1]


def test_a_forked_child_has_connections_of_its_own(cluster: Cluster) -> None:
    cache = make_cache(cluster.url())
    cache.set_many(MANY)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if cache.get_many(MANY) == MANY else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert cache.get_many(MANY) == MANY


def test_a_cluster_may_be_used_as_if_it_were_one_server(cluster: Cluster, drive: Any) -> None:
    cache = drive(make_cache(cluster.url(cluster.nodes[0]), CLUSTER=False))
    keys = [keys[0] for keys in cluster.keys_of_each_node()]
    assert cache.execute("SET", keys[0], 1) in (b"OK", "OK", True)
    with pytest.raises(ResponseError, match=r"^cache '.*MOVED"):
        cache.execute("SET", keys[1], 1)


def test_nodes_that_announce_other_addresses_are_found_by_a_map(drive: Any) -> None:
    with Cluster() as cluster:
        for number, node in enumerate(cluster.nodes):
            node.execute("CONFIG", "SET", "cluster-announce-hostname", f"n{number}.invalid")
            node.execute("CONFIG", "SET", "cluster-preferred-endpoint-type", "hostname")
        cluster.wait_until_announced([f"n{number}.invalid" for number in range(3)])
        by_host = {f"n{number}.invalid": "127.0.0.1" for number in range(3)}
        by_address = {
            (f"n{number}.invalid", node.port): ("127.0.0.1", node.port) for number, node in enumerate(cluster.nodes)
        }
        for addresses in (by_host, by_address):
            cache = drive(make_cache(cluster.url(cluster.nodes[0]), ADDRESS_MAP=addresses))
            cache.set_many(MANY)
            assert cache.get_many(MANY) == MANY


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("a", "b")], "must be a dict, not list"),
        ({"a": 5}, r"has 5: write 'host:port'"),
        ({"a:1": "b"}, "give an address for an address"),
    ],
)
def test_a_map_that_says_nothing_is_refused(given: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make_cache("redis://localhost", ADDRESS_MAP=given)


def test_a_dead_seed_costs_little_and_all_of_them_are_told(cluster: Cluster, server: ValkeyServer, drive: Any) -> None:
    alive = f"127.0.0.1:{cluster.nodes[2].port}"
    cache = drive(make_cache(f"redis://127.0.0.1:1,{alive}"))
    cache.set_many(MANY)
    assert cache.get_many(MANY) == MANY
    with pytest.raises(ConnectionError, match=r"cannot connect to 127\.0\.0\.1:1,127\.0\.0\.1:2"):
        drive(make_cache("redis://127.0.0.1:1,127.0.0.1:2")).get("k")
