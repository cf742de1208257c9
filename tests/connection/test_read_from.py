"""READ_FROM where no server knows of slots: a LOCATION that lists a primary and its replicas, and Sentinel. Calls that
only read keys go to replicas, all others to the primary, and a replica that is lost costs no call.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from support.caches import make_cache
from support.counting import Counting
from support.sentinels import Watched
from support.server import ValkeyServer, wait_until

KEYS = {f"r{number}": number for number in range(30)}
LIMITS = {"RESPONSE_TIMEOUT": 10.0, "CONNECT_TIMEOUT": 5.0}


class Set:
    """A primary, and two replicas in two zones."""

    def __init__(self) -> None:
        self._exit = contextlib.ExitStack()
        # A replica gets its copy at once.
        start = [ValkeyServer(repl_diskless_sync_delay=0) for _ in range(3)]
        self.primary, *self.replicas = [self._exit.enter_context(server) for server in start]
        for server, zone in zip(self.replicas, ("zone-a", "zone-b"), strict=True):
            if not server.tls:
                server.execute("CONFIG", "SET", "availability-zone", zone)
            server.execute("REPLICAOF", "127.0.0.1", self.primary.port)
        for server in self.replicas:
            wait_until(lambda server=server: is_in_step(server), what="a replica in step")

    @property
    def servers(self) -> list[ValkeyServer]:
        return [self.primary, *self.replicas]

    @property
    def location(self) -> list[str]:
        return [server.tcp_url for server in self.servers]

    def promote(self, replica: ValkeyServer) -> None:
        """Makes a replica the primary, without losing a write."""
        old = self.primary
        if old.is_running:
            old.execute("CLIENT", "PAUSE", 60_000, "WRITE")
            position = old.info("replication")["master_repl_offset"]
            wait_until(lambda: replica.info("replication")["slave_repl_offset"] == position, what="a replica in step")
        replica.execute("REPLICAOF", "NO", "ONE")
        self.replicas = [server for server in self.servers if server is not replica]
        self.primary = replica
        for server in self.replicas:
            if server.is_running:
                server.execute("REPLICAOF", "127.0.0.1", replica.port)
        if old.is_running:
            old.execute("CLIENT", "UNPAUSE")

    def __enter__(self) -> Set:
        return self

    def __exit__(self, *error: object) -> None:
        self._exit.close()


def is_in_step(server: ValkeyServer) -> bool:
    return server.info("replication").get("master_link_status") == "up"


def fill(cache: Any, servers: Set) -> None:
    """The keys, and copies of them on all replicas."""
    cache.set_many(KEYS)
    wait_until(lambda: all(len(server.keys()) == len(KEYS) for server in servers.replicas), what="copies")


def reads(server: ValkeyServer) -> int:
    counts = server.command_counts()
    return counts.get("get", 0) + counts.get("mget", 0)


@pytest.fixture(scope="module")
def shared_set() -> Iterator[Set]:
    with Set() as servers:
        yield servers


@pytest.fixture
def filled(shared_set: Set) -> Set:
    """Keys are on the replicas, and counts begin anew."""
    shared_set.primary.execute("FLUSHALL")
    fill(make_cache(shared_set.location), shared_set)
    for server in shared_set.servers:
        server.execute("CONFIG", "RESETSTAT")
    return shared_set


def test_the_primary_is_read_if_nothing_else_is_said(filled: Set, drive: Any) -> None:
    cache = drive(make_cache(filled.location))
    assert cache.get_many(KEYS) == KEYS
    assert [reads(server) for server in filled.servers] == [1, 0, 0]


def test_replicas_are_read_and_the_primary_is_written(filled: Set, drive: Any) -> None:
    cache = drive(make_cache(filled.location, READ_FROM="prefer_replica", CLIENT_NAME="reads"))
    assert cache.get_many(KEYS) == KEYS
    assert [cache.get(key) for key in KEYS] == list(KEYS.values())
    assert [reads(server) > 10 for server in filled.servers] == [False, True, True]
    assert reads(filled.primary) == 0
    cache.set("w", 5, timeout=None)
    assert cache.incr("w") == 6
    assert cache.execute("STRLEN", ":1:r1") == 1
    names = [[client["name"] for client in server.clients()].count("reads") for server in filled.servers]
    assert names == [1, 1, 1]


def test_keys_need_not_be_in_one_slot(filled: Set, drive: Any) -> None:
    cache = drive(make_cache(filled.location, READ_FROM="prefer_replica"))
    cache.set("moves", 5)
    assert cache.incr_version("moves") == 2
    assert filled.primary.command_counts().get("rename", 0) == 1
    assert cache.execute("MSET", "a", 1, "b", 2) == b"OK"
    assert cache.execute("SUNION", "c", "d") == set()


def test_what_is_about_the_whole_server_goes_to_the_primary(filled: Set, drive: Any) -> None:
    cache = drive(make_cache(filled.location, READ_FROM="prefer_replica"))
    assert cache.execute("DBSIZE") == len(KEYS)
    assert len(cache.execute("KEYS", "*")) == len(KEYS)
    assert cache.execute("SCAN", "0")
    assert cache.execute("BLPOP", "nothing", 0.01) is None
    cache.clear()
    assert filled.primary.keys() == []
    counts = [server.command_counts() for server in filled.replicas]
    assert not any({"dbsize", "keys", "scan", "blpop"} & of_server.keys() for of_server in counts)


# A server with TLS knows of no zones.
@pytest.mark.plain_server
@pytest.mark.parametrize("number", [0, 1])
def test_the_replica_of_the_own_zone_is_read(filled: Set, drive: Any, number: int) -> None:
    zone = ("zone-a", "zone-b")[number]
    cache = drive(make_cache(filled.location, READ_FROM="az", AVAILABILITY_ZONE=zone))
    near, far = filled.replicas[number], filled.replicas[1 - number]

    def is_read() -> bool:
        cache.get("r1")
        return reads(near) > 0

    # At the first call only the primary is known; where the others stand is asked beside.
    wait_until(is_read, what="the zones")
    before = reads(filled.primary)
    assert cache.get_many(KEYS) == KEYS
    assert (reads(filled.primary), reads(far)) == (before, 0)


def test_without_a_replica_in_the_zone_the_primary_is_read(filled: Set, drive: Any) -> None:
    cache = drive(make_cache(filled.location, READ_FROM="az", AVAILABILITY_ZONE="zone-c"))
    for _ in range(3):
        assert cache.get_many(KEYS) == KEYS
    assert [reads(server) for server in filled.servers] == [3, 0, 0]


def test_replicas_that_are_lost_cost_no_call_and_are_read_again(drive: Any) -> None:
    with Set() as servers:
        cache = drive(make_cache(servers.location, READ_FROM="prefer_replica", **LIMITS))
        fill(cache, servers)
        assert cache.get_many(KEYS) == KEYS
        for server in servers.replicas:
            server.kill()
        for _ in range(5):
            assert cache.get_many(KEYS) == KEYS
        back = servers.replicas[0]
        back.restart()
        back.execute("REPLICAOF", "127.0.0.1", servers.primary.port)
        wait_until(lambda: is_in_step(back) and len(back.keys()) == len(KEYS), what="a replica in step")

        def is_read() -> bool:
            assert cache.get_many(KEYS) == KEYS
            return reads(back) > 0

        wait_until(is_read, what="reads from the replica that came back")


def test_a_replica_that_lost_its_primary_answers_or_passes_the_call_on(drive: Any) -> None:
    with Set() as servers:
        cache = drive(make_cache(servers.location, READ_FROM="prefer_replica", **LIMITS))
        fill(cache, servers)
        for server in servers.replicas:
            server.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
            # It leads nowhere: the replica says MASTERDOWN.
            server.execute("REPLICAOF", "127.0.0.1", 1)
        assert [cache.get(key) for key in list(KEYS)[:3]] == [0, 1, 2]


def test_a_promotion_under_load_fails_no_call(drive: Any) -> None:
    with Set() as servers:
        cache = make_cache(servers.location, READ_FROM="prefer_replica", **LIMITS)
        with Counting(cache, [["n1", "n2"]]) as counting:
            servers.promote(servers.replicas[0])
            counting.goes_on()
        assert counting.failures == []
        wait_until(lambda: all(is_in_step(server) for server in servers.replicas), what="replicas in step")
        counting.cache = make_cache(servers.location)
        counting.check()
        # What was the primary is read now, as the replica that it is.
        servers.replicas[-1].execute("CONFIG", "RESETSTAT")
        wait_until(lambda: cache.get("n1") and all(reads(server) for server in servers.replicas), what="reads")
        assert drive(cache).get("n1") == servers_count(servers, "n1")


def servers_count(servers: Set, key: str) -> int:
    return int(servers.primary.execute("GET", f":1:{key}"))  # type: ignore[arg-type]


def test_reads_go_on_without_a_primary_and_writes_when_there_is_one(drive: Any) -> None:
    with Set() as servers:
        cache = drive(make_cache(servers.location, READ_FROM="prefer_replica", **LIMITS))
        fill(cache, servers)
        assert cache.get_many(KEYS) == KEYS
        servers.primary.kill()
        for _ in range(3):
            assert cache.get_many(KEYS) == KEYS
        with pytest.raises(ConnectionError):
            cache.set("w", 1)
        servers.promote(servers.replicas[0])

        def writes() -> bool:
            try:
                cache.set("w", 2)
            except (ConnectionError, TimeoutError):
                return False
            return True

        wait_until(writes, what="writes to the new primary")
        assert servers.primary.execute("GET", ":1:w") == b"2"


def test_sentinel_tells_of_replicas_before_and_after_a_failover() -> None:
    with Watched() as watched:
        cache = make_cache(watched.url(), READ_FROM="prefer_replica", **LIMITS)
        cache.set_many(KEYS)
        old, new = watched.primary, watched.replica
        wait_until(lambda: len(new.keys()) == len(KEYS), what="copies")
        assert cache.get_many(KEYS) == KEYS
        assert (reads(old), reads(new) > 0) == (0, True)
        watched.fail_over()
        # It is refused by the old primary, which has the sentinels asked.
        cache.set("w", 1)
        assert make_cache(watched.url()).get("w") == 1
        assert cache.get_many(KEYS) == KEYS
        wait_until(lambda: is_in_step(old), what="a replica in step")

        attempts = itertools.count()

        def is_read() -> bool:
            # What starts later finds the old primary as a replica, once the sentinels know that it is one.
            name = f"attempt-{next(attempts)}"
            later = make_cache(watched.url(), READ_FROM="prefer_replica", CLIENT_NAME=name)
            assert later.get_many(KEYS) == KEYS
            return reads(old) > 0

        wait_until(is_read, interval=0.2, what="reads from the new replica")
