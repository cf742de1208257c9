"""Calls over TLS: what is read is what was written, whatever its size, however many there are, and however the network
cuts the bytes."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
from support.caches import make_cache
from support.load import works_again
from support.proxy import Proxy
from support.server import ValkeyServer, wait_until


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_000, 8 * 1024 * 1024])
def test_values_of_every_size_come_back(cache_factory: Any, size: int) -> None:
    cache = cache_factory(COMPRESS_MIN_LEN=None)
    value = os.urandom(size)
    cache.set("k", value)
    assert cache.get("k") == value


def test_many_values_at_once_come_back(cache: Any) -> None:
    values = {f"k{number}": os.urandom(number % 3_000) for number in range(3_000)}
    assert cache.set_many(values) == []
    assert cache.get_many(values) == values


def test_calls_of_many_tasks_get_their_own_replies(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def turn(number: int) -> None:
        value = f"{number}" * (number % 200)
        await cache.aset(f"k{number}", value)
        assert await cache.aget(f"k{number}") == value

    async def crowd() -> None:
        await asyncio.gather(*(turn(number) for number in range(500)))

    run(crowd())


def test_a_process_has_one_connection(fresh_server: ValkeyServer, drive: Any) -> None:
    cache = drive(make_cache(fresh_server))
    for number in range(50):
        cache.set(f"k{number}", number)
    assert len(fresh_server.clients()) == 1


def test_a_blocking_command_has_a_connection_with_tls_too(server: ValkeyServer, drive: Any) -> None:
    cache = drive(make_cache(server))
    cache.execute("RPUSH", "queue", "x")
    assert cache.execute("BLPOP", "queue", 10) == [b"queue", b"x"]


def test_bytes_one_by_one_make_the_same_replies(server: ValkeyServer, drive: Any) -> None:
    with Proxy(server, piece=1) as proxy:
        cache = drive(make_cache(proxy.url, CONNECT_TIMEOUT=30.0, RESPONSE_TIMEOUT=60.0))
        value = "v" * 3_000
        cache.set("k", value)
        assert cache.get("k") == value
        assert cache.get_many(["k", "none"]) == {"k": value}


def test_a_narrow_line_carries_more_than_fits_into_its_buffers(server: ValkeyServer, drive: Any) -> None:
    with Proxy(server, rate=8 * 1024 * 1024) as proxy:
        cache = drive(make_cache(proxy.url, COMPRESS_MIN_LEN=None, RESPONSE_TIMEOUT=60.0))
        values = {f"k{number}": os.urandom(1024 * 1024) for number in range(6)}
        assert cache.set_many(values) == []
        assert cache.get_many(values) == values


def test_a_lost_connection_is_made_anew(server: ValkeyServer, drive: Any) -> None:
    with Proxy(server) as proxy:
        cache = drive(make_cache(proxy.url))
        cache.set("k", 1)
        proxy.cut()
        assert cache.get("k") == 1
        assert proxy.accepted == 2


def test_a_server_that_was_restarted_is_found_again(fresh_server: ValkeyServer, drive: Any) -> None:
    cache = drive(make_cache(fresh_server))
    cache.set("k", 1)
    fresh_server.restart()
    wait_until(lambda: works_again(cache), what="the cache answers again")


def test_a_line_that_is_dead_is_found_out(server: ValkeyServer, drive: Any) -> None:
    with Proxy(server) as proxy:
        cache = drive(make_cache(proxy.url, RESPONSE_TIMEOUT=0.5))
        cache.set("k", 1)
        proxy.forget()
        with pytest.raises(TimeoutError):
            cache.execute("INCR", "n")
        assert cache.get("k") == 1
