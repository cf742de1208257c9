"""READ_FROM: calls that only read go to replicas, all others to primaries, and a replica that is lost costs no call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from support.caches import make_cache
from support.clusters import Cluster
from support.server import wait_until

from django_vcache.exceptions import ConfigurationError

KEYS = {f"r{number}": number for number in range(30)}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three primaries with a replica each, in two zones."""
    with Cluster(replicas=1) as cluster:
        for number, node in enumerate(cluster.nodes):
            node.execute("CONFIG", "SET", "availability-zone", f"zone-{number % 2}")
        wait_until(lambda: all(_zones(node) for node in cluster.nodes), what="zones that are known")
        yield cluster


def _zones(node: Any) -> bool:
    """Whether a node tells the zones of all six."""
    rows = node.execute("CLUSTER", "SLOTS")
    return sum(b"availability-zone" in server[3] for row in rows for server in row[2:]) == 6


def reads(cluster: Cluster) -> list[int]:
    """Keys that each node was asked for."""
    counts = [node.command_counts() for node in cluster.nodes]
    return [of_node.get("get", 0) + of_node.get("mget", 0) for of_node in counts]


@pytest.fixture
def filled(cluster: Cluster) -> Cluster:
    """Keys are on the replicas, and counts begin anew."""
    make_cache(cluster.url()).set_many(KEYS)
    for replica in cluster.nodes[3:]:
        wait_until(lambda replica=replica: len(replica.keys()) == len(_primary(cluster, replica).keys()), what="copies")
    for node in cluster.nodes:
        node.execute("CONFIG", "RESETSTAT")
    return cluster


def _primary(cluster: Cluster, replica: Any) -> Any:
    port = int(replica.info("replication")["master_port"])
    [primary] = [node for node in cluster.nodes if node.port == port]
    return primary


def test_primaries_are_read_if_nothing_else_is_said(filled: Cluster, drive: Any) -> None:
    cache = drive(make_cache(filled.url()))
    assert cache.get_many(KEYS) == KEYS
    assert reads(filled)[3:] == [0, 0, 0]


def test_replicas_are_read_and_primaries_are_written(filled: Cluster, drive: Any) -> None:
    cache = drive(make_cache(filled.url(), READ_FROM="prefer_replica", CLIENT_NAME="reads"))
    assert cache.get_many(KEYS) == KEYS
    assert [cache.get(key) for key in KEYS] == list(KEYS.values())
    assert reads(filled)[:3] == [0, 0, 0]
    assert all(reads(filled)[3:])
    cache.set("w", 5, timeout=None)
    assert cache.incr("w") == 6
    names = [[client["name"] for client in node.clients()].count("reads") for node in filled.nodes]
    assert all(count <= 1 for count in names)


def test_replicas_of_the_own_zone_are_read(filled: Cluster, drive: Any) -> None:
    cache = drive(make_cache(filled.url(), READ_FROM="az", AVAILABILITY_ZONE="zone-1"))
    assert [cache.get(key) for key in KEYS] == list(KEYS.values())
    counts = reads(filled)
    # Of the replicas, numbers 3 and 5 are in that zone. The keys of the third are read from its primary.
    assert counts[3] > 0
    assert counts[5] > 0
    assert counts[4] == 0
    assert sum(bool(count) for count in counts[:3]) == 1


def test_a_replica_that_is_lost_costs_no_call(drive: Any) -> None:
    with Cluster(replicas=1) as cluster:
        cache = drive(make_cache(cluster.url(), READ_FROM="prefer_replica"))
        cache.set_many(KEYS)
        for replica in cluster.nodes[3:]:
            wait_until(lambda replica=replica: len(replica.keys()) == len(_primary(cluster, replica).keys()))
        assert cache.get_many(KEYS) == KEYS
        for replica in cluster.nodes[3:]:
            replica.kill()
        for _ in range(5):
            assert cache.get_many(KEYS) == KEYS


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"READ_FROM": "anywhere"}, "READ_FROM is 'anywhere': it is 'primary', 'prefer_replica' or 'az'"),
        ({"READ_FROM": "az"}, "AVAILABILITY_ZONE does not say"),
        ({"READ_FROM": 5}, r"must be a string, not int"),
    ],
)
def test_what_says_nothing_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        make_cache("redis://localhost", **options)
