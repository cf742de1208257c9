"""More than the connection can carry: tens of thousands of calls at once, values of many megabytes, a
server that takes nothing. Each call gets its own reply or a clear error, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS, open_runner
from support.programs import Program
from support.server import ValkeyServer

MEGABYTE = 1024 * 1024


async def many_gets(cache: Any, count: int) -> Counter[str]:
    """`count` gets at once; how many were right, and what the others came to."""
    await cache.aset_many({f"k{number}": number for number in range(1000)})
    found = await asyncio.gather(*(cache.aget(f"k{number % 1000}") for number in range(count)), return_exceptions=True)
    outcomes: Counter[str] = Counter()
    for number, value in enumerate(found):
        if isinstance(value, Exception):
            assert "already waiting" in str(value), value
            outcomes[type(value).__name__] += 1
        else:
            assert value == number % 1000
            outcomes["right"] += 1
    return outcomes


def test_20_000_gets_at_once_are_all_answered(run: Any, server: ValkeyServer) -> None:
    assert run(many_gets(make_cache(server, RESPONSE_TIMEOUT=60.0), 20_000)) == {"right": 20_000}


def test_100_000_gets_at_once_are_answered_or_clearly_refused(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server, RESPONSE_TIMEOUT=60.0)
    outcomes = run(many_gets(cache, 100_000))
    assert set(outcomes) <= {"right", "ConnectionError"}
    # 16,384 on their way and 65,536 that wait.
    assert outcomes["right"] >= 80_000
    # Refusals leave nothing behind: the next burst that fits is answered whole.
    assert run(many_gets(cache, 20_000)) == {"right": 20_000}


def test_200_000_calls_of_one_iteration_are_all_answered(server: ValkeyServer) -> None:
    """A loop that hands over so much at once is not to blame for what the server has had no time to answer."""
    cache = make_cache(server, RESPONSE_TIMEOUT=60.0)

    async def main() -> None:
        await cache.aset("k", 7)
        # In a cluster the two keys may be on two nodes.
        await cache.aexecute("EXISTS", "n")
        gets = asyncio.gather(*(cache.aget("k") for _ in range(100_000)))
        increments = asyncio.gather(*(cache.aexecute("INCR", "n") for _ in range(100_000)))
        found, counted = await asyncio.gather(gets, increments)
        assert found.count(7) == 100_000
        assert counted == list(range(1, 100_001))

    # One loop is enough: it is the queue that is tested.
    with open_runner("asyncio") as runner:
        runner.run(main())


def test_20_000_first_calls_at_once_wait_for_the_connection(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=60.0)

    async def main() -> set[Any]:
        return set(await asyncio.gather(*(cache.aget(f"k{number}", "miss") for number in range(20_000))))

    assert run(main()) == {"miss"}
    assert len(fresh_server.clients()) == 1


def test_a_value_of_16_megabytes_arrives_intact(drive: Any, server: ValkeyServer) -> None:
    cache = drive(make_cache(server, RESPONSE_TIMEOUT=60.0))
    blob = os.urandom(16 * MEGABYTE)
    cache.set("large", blob)
    assert cache.get("large") == blob
    text = "é" * (4 * MEGABYTE)
    cache.set("text", text)
    assert cache.get("text") == text


def test_50_values_of_a_megabyte_at_once_arrive_intact(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server, RESPONSE_TIMEOUT=60.0, COMPRESS_MIN_LEN=None)
    blobs = [os.urandom(MEGABYTE) for _ in range(50)]

    async def main() -> None:
        small = [asyncio.ensure_future(cache.aset(f"small{number}", number)) for number in range(50)]
        await asyncio.gather(*(cache.aset(f"k{number}", blob) for number, blob in enumerate(blobs)), *small)
        found = await asyncio.gather(*(cache.aget(f"k{number}") for number in range(50)))
        assert found == blobs
        assert await cache.aget_many([f"k{number}" for number in range(50)]) == {
            f"k{number}": blob for number, blob in enumerate(blobs)
        }

    run(main())


def test_large_values_of_threads_arrive_intact(server: ValkeyServer) -> None:
    cache = make_cache(server, RESPONSE_TIMEOUT=60.0, COMPRESS_MIN_LEN=None)
    right: list[bool] = []

    def body(number: int) -> None:
        blob = bytes([number]) * (4 * MEGABYTE)
        for _ in range(3):
            cache.set(f"k{number}", blob)
            right.append(cache.get(f"k{number}") == blob)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert right == [True] * 24


PAUSED = """
async def main():
    await cache.aset("warm", "x")
    report("ready")
    wait_for_word()
    blob = bytes(1024 * 1024)
    before = rss()
    tasks = [asyncio.ensure_future(cache.aset(f"k{number}", blob, None)) for number in range(2000)]
    outcomes = {}
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION, timeout=0.5)
        for each in done:
            name = type(each.exception()).__name__
            outcomes[name] = outcomes.get(name, 0) + 1
        if not done:
            break
    report([rss() - before, outcomes, len(pending)])
    wait_for_word()
    if pending:
        await asyncio.wait(pending)
    assert all(each.exception() is None for each in pending)
    tasks.clear(), pending.clear(), gc.collect()
    assert await cache.aget("warm") == "x"
    report(rss() - before)

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_paused_server_does_not_fill_the_memory(fresh_server: ValkeyServer, loop: str) -> None:
    """Two gigabytes are to be sent; some wait, the rest are refused at once."""
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=120.0, COMPRESS_MIN_LEN=None)
    with Program(PAUSED, {"default": setting}, loop) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        grown, outcomes, pending = program.report()
        fresh_server.resume()
        assert grown < 512 * MEGABYTE
        assert set(outcomes) == {"ConnectionError"}
        assert outcomes["ConnectionError"] + pending == 2000
        program.tell()
        assert program.report() < 64 * MEGABYTE
        program.end()
