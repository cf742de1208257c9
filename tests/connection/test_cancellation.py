"""Cancelled calls: their neighbours get their own replies, in order, and nothing is left of thousands of
them, whichever way they were cancelled.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer


async def fill(cache: Any, count: int) -> None:
    await cache.aset_many({f"k{number}": f"value {number}" for number in range(count)})


async def values(cache: Any, count: int) -> list[Any]:
    return await asyncio.gather(*(cache.aget(f"k{number}") for number in range(count)))


def test_a_cancelled_task_disturbs_no_other(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def main() -> None:
        await fill(cache, 100)
        for turn in range(50):
            tasks = [asyncio.ensure_future(cache.aget(f"k{number}")) for number in range(100)]
            # Before they are submitted, after it, and after they are written.
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            tasks[turn].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if number != turn or not isinstance(result, asyncio.CancelledError):
                    assert result == f"value {number}"

    run(main())


def test_a_cancelled_call_on_a_silent_server_ends_at_once_and_its_reply_is_nobody_elses(
    run: Any, fresh_server: ValkeyServer
) -> None:
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=30.0)

    async def main() -> None:
        await fill(cache, 100)
        fresh_server.pause()
        try:
            tasks = [asyncio.ensure_future(cache.aget(f"k{number}")) for number in range(100)]
            await asyncio.sleep(0.01)
            for task in tasks[::2]:
                task.cancel()
            async with asyncio.timeout(10):
                gone = await asyncio.gather(*tasks[::2], return_exceptions=True)
            assert {type(error) for error in gone} == {asyncio.CancelledError}
            assert not any(task.done() for task in tasks[1::2])
        finally:
            fresh_server.resume()
        assert await asyncio.gather(*tasks[1::2]) == [f"value {number}" for number in range(1, 100, 2)]
        assert await values(cache, 100) == [f"value {number}" for number in range(100)]

    run(main())


def test_wait_for_gives_up_on_one_call_only(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=30.0)

    async def main() -> None:
        await fill(cache, 10)
        before = await cache.aexecute("CLIENT", "ID")
        fresh_server.pause()
        try:
            patient = asyncio.ensure_future(cache.aget("k1"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(cache.aget("k0"), 0.05)
        finally:
            fresh_server.resume()
        assert await patient == "value 1"
        assert await cache.aget("k2") == "value 2"
        assert await cache.aexecute("CLIENT", "ID") == before

    run(main())


def test_a_failing_sibling_in_a_task_group_cancels_cleanly(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def fail() -> None:
        await cache.aget("k0")
        raise LookupError

    async def group() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(cache.aget(f"k{number}"))
            group.create_task(fail())

    async def main() -> None:
        await fill(cache, 50)
        for _ in range(50):
            with pytest.raises(ExceptionGroup) as caught:
                await group()
            assert caught.group_contains(LookupError)
            with pytest.raises(LookupError):
                await asyncio.gather(fail(), *(cache.aget(f"k{number}") for number in range(50)))
            assert await values(cache, 50) == [f"value {number}" for number in range(50)]

    run(main())


def test_shield_keeps_a_call_alive(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=30.0)

    async def main() -> None:
        await cache.aset("k", "v")
        fresh_server.pause()
        inner = asyncio.ensure_future(cache.aget("k"))
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(inner), 0.02)
        finally:
            fresh_server.resume()
        assert await inner == "v"

    run(main())


def test_an_increment_cancelled_between_its_steps_leaves_the_rest_working(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def main() -> None:
        await cache.aset("n", 0)
        succeeded = 0
        for turn in range(200):
            task = asyncio.ensure_future(cache.aincr("n"))
            for _ in range(turn % 5):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
                succeeded += 1
            except asyncio.CancelledError:
                pass
        assert succeeded <= await cache.aget("n") <= 200

    run(main())


MANY = """
async def fill():
    await cache.aset_many({f"k{number}": f"value {number}" for number in range(1000)})

async def cancel(count):
    tasks = [asyncio.ensure_future(cache.aget(f"k{number % 1000}")) for number in range(count)]
    tasks += [asyncio.ensure_future(cache.aset(f"other {number % 10}", "x" * 1000)) for number in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    results = await asyncio.gather(*(cache.aget(f"k{number}") for number in range(1000)))
    assert results == [f"value {number}" for number in range(1000)]

async def main():
    await fill()
    sizes, objects = [], []
    for turn in range(24):
        await cancel(5000)
        gc.collect()
        sizes.append(rss())
        objects.append(len(gc.get_objects()))
    report([sizes, objects])

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_cancelled_calls_a_round_leave_no_memory_behind(server: ValkeyServer, loop: str) -> None:
    sizes, objects = run_program(MANY, {"default": cache_setting(server)}, loop)
    # The allocators' pools grow by whole pieces, in any of the first rounds: what counts is that the size stays then.
    assert min(sizes[18:]) - max(sizes[:12]) < 8 * 1024 * 1024, sizes
    assert objects[-1] - objects[2] < 500, objects


UNWRITTEN = """
async def one(blob):
    try:
        await asyncio.wait_for(cache.aset("k", blob), 0.0005)
    except TimeoutError:
        pass

async def main():
    await cache.aset("warm", "x")
    blob = os.urandom(1024 * 1024)
    report("ready")
    wait_for_word()
    sizes = []
    for _ in range(4):
        for _ in range(100):
            await one(blob)
        sizes.append(rss())
    report(sizes)
    wait_for_word()
    assert await cache.aget("warm") == "x"

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_calls_that_were_never_written_let_go_of_their_bytes(fresh_server: ValkeyServer, loop: str) -> None:
    from support.programs import Program

    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=30.0, COMPRESS_MIN_LEN=None)
    with Program(UNWRITTEN, {"default": setting}, loop) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        sizes = program.report()
        fresh_server.resume()
        # What is in flight is bounded by 16 MiB; the rest was 100 MiB a round.
        assert sizes[-1] - sizes[0] < 64 * 1024 * 1024, sizes
        program.tell()
        program.end()
