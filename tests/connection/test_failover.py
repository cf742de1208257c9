"""A failover: the server that a connection leads to becomes a replica, and its name leads to another one. A write that
is refused was not executed, so it is sent again where the name leads to now: once, without an error and without a
restart. A server that stays a replica goes on answering reads, and says READONLY to writes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from django.test import override_settings
from support.caches import cache_setting, make_cache
from support.proxy import Proxy
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 10.0, "CONNECT_TIMEOUT": 5.0}


class Pair(NamedTuple):
    """Two servers, and the address that leads to one of them."""

    old: ValkeyServer
    new: ValkeyServer
    proxy: Proxy

    def fail_over(self) -> None:
        """The name leads to the new server, whose replica the old one becomes; what is connected stays so."""
        self.proxy.lead_to(self.new)
        become_a_replica(self.old, self.new.port)


def become_a_replica(server: ValkeyServer, of: int) -> None:
    assert server.execute("REPLICAOF", "127.0.0.1", of) == "OK"
    assert server.info("replication")["role"] == "slave"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ValkeyServer, ValkeyServer]]:
    with ValkeyServer() as old, ValkeyServer() as new:
        yield old, new


@pytest.fixture
def pair(servers: tuple[ValkeyServer, ValkeyServer]) -> Iterator[Pair]:
    """Two empty primaries, and a name that leads to the old one."""
    for server in servers:
        server.execute("REPLICAOF", "NO", "ONE")
        server.execute("FLUSHALL")
    with Proxy(servers[0]) as proxy:
        yield Pair(*servers, proxy)


def increment(cache: Any) -> None:
    assert cache.execute("INCR", "n") == 1


def set_one(cache: Any) -> None:
    cache.set("k", "v")
    assert cache.get("k") == "v"


def set_several(cache: Any) -> None:
    values = {f"k{number}": number for number in range(10)}
    assert cache.set_many(values) == []
    assert cache.get_many(values) == values


def add_one(cache: Any) -> None:
    assert cache.add("k", "v") is True


def pop(cache: Any) -> None:
    """It has a connection of its own, which led to the old server as well."""
    assert cache.execute("RPUSH", "queue", "x") == 1
    assert cache.execute("BLPOP", "queue", 10) == [b"queue", b"x"]
    assert cache.execute("LLEN", "queue") == 0


def pop_at_once(cache: Any) -> None:
    assert cache.execute("BLPOP", "filled", 10) == [b"filled", b"x"]


CALLS = [increment, set_one, set_several, add_one, pop, pop_at_once]


@pytest.mark.parametrize("call", CALLS)
def test_the_next_write_reaches_the_new_primary(drive: Any, pair: Pair, call: Callable[[Any], None]) -> None:
    cache = drive(make_cache(pair.proxy.url, **LIMITS))
    cache.execute("RPUSH", "filled", "y")
    assert cache.execute("BLPOP", "filled", 10) == [b"filled", b"y"]
    pair.new.execute("RPUSH", "filled", "x")
    pair.fail_over()
    call(cache)


def test_the_next_decision_of_a_throttle_is_the_new_primarys(drive: Any, pair: Pair) -> None:
    from django_vcache import hotpaths
    from django_vcache.admission import Throttle
    from django_vcache.backend import publish_alias

    class Calls:
        """What `drive` wraps: both forms, by the same names."""

        throttle = Throttle("org", "3/d", deadline=10.0)

        def check(self) -> Any:
            return self.throttle.check(1)

        async def acheck(self) -> Any:
            return await self.throttle.acheck(1)

        def allow(self) -> Any:
            return hotpaths.allow("budget", limit=3, period=86_400)

        async def aallow(self) -> Any:
            return await hotpaths.aallow("budget", limit=3, period=86_400)

    calls = drive(Calls())
    setting = {**cache_setting(pair.old, **LIMITS), "LOCATION": pair.proxy.url}
    with override_settings(CACHES={"default": setting}):
        publish_alias("default")
        assert calls.check().source == "server"
        assert calls.allow().remaining == 2
        pair.fail_over()
        decision = calls.check()
        assert decision.source == "server", decision.outage
        assert decision.rules[0].remaining == 2
        assert calls.allow().remaining == 2
        assert calls.throttle.metrics()["outages"] == 0


def test_a_hundred_tasks_at_once_are_executed_once_each(run: Any, pair: Pair) -> None:
    """Reads among them are answered too, by either server."""
    cache = make_cache(pair.proxy.url, **LIMITS)

    async def main() -> None:
        await cache.aexecute("SET", "k", "v")
        pair.new.execute("SET", "k", "v")
        pair.fail_over()
        calls = [cache.aexecute("INCR", "n") for _ in range(100)]
        reads = [cache.aexecute("GET", "k") for _ in range(20)]
        values, found = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*reads))
        assert sorted(values) == list(range(1, 101))
        assert set(found) <= {b"v", None}

    run(main())
    assert pair.new.execute("GET", "n") == b"100"
    assert pair.proxy.accepted == 2


def test_threads_at_once_are_executed_once_each(pair: Pair) -> None:
    cache = make_cache(pair.proxy.url, **LIMITS)
    cache.execute("SET", "k", "v")
    together = threading.Barrier(10)

    def work(number: int) -> list[Any]:
        together.wait(60)
        return [cache.execute("INCR", "n") for _ in range(10)]

    pair.fail_over()
    with ThreadPoolExecutor(10) as pool:
        values = [value for several in pool.map(work, range(10)) for value in several]
    assert sorted(values) == list(range(1, 101))
    assert pair.proxy.accepted == 2


def test_a_connection_that_began_on_a_replica_finds_the_primary(drive: Any, pair: Pair) -> None:
    """The name was behind when the process started."""
    become_a_replica(pair.old, pair.new.port)
    cache = drive(make_cache(pair.proxy.url, **LIMITS))
    assert cache.get("k") is None
    pair.proxy.lead_to(pair.new)
    cache.set("k", "v")
    assert cache.get("k") == "v"
    assert cache.execute("INCR", "n") == 1


PATIENCE = {"RESPONSE_TIMEOUT": 1.0, "CONNECT_TIMEOUT": 1.0}
# How much later than that a write may end on a busy machine.
LATE = 3.0
FEW = 20


def lonely_replica(server: ValkeyServer) -> int:
    """It has a value, and waits for a primary that does not exist; how many connections it has had."""
    server.execute("SET", "k", "v")
    become_a_replica(server, 1)
    return int(server.info("stats")["total_connections_received"])


def connections_since(server: ValkeyServer, before: int) -> int:
    return int(server.info("stats")["total_connections_received"]) - before


def response_error() -> type[Any]:
    from django_vcache.exceptions import ResponseError

    return ResponseError


def test_a_server_that_stays_a_replica_answers_reads_and_refuses_writes(run: Any, fresh_server: ValkeyServer) -> None:
    before = lonely_replica(fresh_server)
    cache = make_cache(fresh_server, **PATIENCE)

    async def write() -> float:
        begun = time.monotonic()
        with pytest.raises(response_error()) as caught:
            await cache.aset("n", 1)
        assert caught.value.code == "READONLY"
        return time.monotonic() - begun

    async def main() -> None:
        assert await cache.aexecute("GET", "k") == b"v"
        for _ in range(2):
            writes = [asyncio.ensure_future(write()) for _ in range(10)]
            while not all(each.done() for each in writes):
                assert await cache.aexecute("GET", "k") == b"v"
                await asyncio.sleep(0.01)
            took = await asyncio.gather(*writes)
            assert max(took) < PATIENCE["RESPONSE_TIMEOUT"] + LATE
        for _ in range(20):
            assert await cache.aexecute("GET", "k") == b"v"

    run(main())
    assert connections_since(fresh_server, before) <= FEW
    fresh_server.execute("REPLICAOF", "NO", "ONE")
    run(write_until_it_works(cache))


async def write_until_it_works(cache: Any) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                return await cache.aset("n", 1)
            except response_error():
                # The last refusal may be remembered for a moment.
                await asyncio.sleep(0.02)


def test_threads_on_a_server_that_stays_a_replica_read_on(fresh_server: ValkeyServer) -> None:
    before = lonely_replica(fresh_server)
    cache = make_cache(fresh_server, **PATIENCE)
    codes: list[str] = []

    def write() -> None:
        try:
            cache.execute("INCR", "n")
        except response_error() as error:
            codes.append(error.code)
        else:
            codes.append("OK")

    for _ in range(2):
        writing = threading.Thread(target=write)
        begun = time.monotonic()
        writing.start()
        while writing.is_alive():
            assert cache.execute("GET", "k") == b"v"
            writing.join(0.01)
        assert time.monotonic() - begun < PATIENCE["RESPONSE_TIMEOUT"] + LATE
    assert codes == ["READONLY"] * 2
    assert connections_since(fresh_server, before) <= FEW
    fresh_server.execute("REPLICAOF", "NO", "ONE")

    def works() -> bool:
        write()
        return codes[-1] == "OK"

    wait_until(works, timeout=20)
    assert cache.execute("GET", "n") == b"1"
