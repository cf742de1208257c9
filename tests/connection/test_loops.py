"""Event loops come and go, several run at once, and blocking calls happen in between, also on a loop's
own thread: every call is answered, and nothing is left behind (descriptors, threads, memory).
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS, open_runner
from support.load import loop_under_load, threads_under_load
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until


async def own_keys(cache: Any, name: str, turns: int) -> int:
    """Write and read keys nobody else uses; how many came back right."""
    right = 0
    for turn in range(turns):
        await cache.aset(f"{name}:{turn}", f"{name}={turn}")
        right += await cache.aget(f"{name}:{turn}") == f"{name}={turn}"
    return right


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_two_loops_at_once_get_their_own_replies(server: ValkeyServer, first: str, second: str) -> None:
    cache = make_cache(server)
    right: list[int] = []
    barrier = threading.Barrier(2)

    def body(loop: str, name: str) -> None:
        async def main() -> None:
            barrier.wait()
            right.extend(await asyncio.gather(*(own_keys(cache, f"{name}{task}", 20) for task in range(25))))

        with open_runner(loop) as runner:
            runner.run(main())

    threads = [threading.Thread(target=body, args=pair) for pair in ((first, "a"), (second, "b"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert right == [20] * 50


SHORT_LIVED = """
async def once(number):
    await cache.aset("k", number)
    assert await cache.aget("k") == number

def round(loops):
    for number in range(loops):
        run(once(number))

report_leftovers(round, 20, 200)
"""

THREADED = """
async def once(number):
    await cache.aset(f"k{number}", number)
    assert await cache.aget(f"k{number}") == number

def round(loops):
    for _ in range(loops):
        in_threads(4, lambda number: run(once(number)))

report_leftovers(round, 5, 50, lambda: cache.get("k0"))
"""

ASGIREF = """
from asgiref.sync import async_to_sync, sync_to_async

async def inner(number):
    await cache.aset("k", number)
    return await cache.aget("k")

def middle(number):
    assert cache.get("warm") is None
    return async_to_sync(inner)(number)

async def outer(number):
    return await sync_to_async(middle)(number) + await sync_to_async(cache.get, thread_sensitive=False)("k")

def round(loops):
    for number in range(loops):
        assert async_to_sync(inner)(number) == number
        assert async_to_sync(outer)(number) == 2 * number

report_leftovers(round, 10, 100)
"""


@pytest.mark.parametrize("source", [SHORT_LIVED, THREADED, ASGIREF], ids=["run", "threads", "asgiref"])
@pytest.mark.parametrize("loop", LOOPS)
def test_many_short_lived_loops_leave_nothing_behind(server: ValkeyServer, loop: str, source: str) -> None:
    (fds, threads), (fds_after, threads_after) = run_program(source, {"default": cache_setting(server)}, loop)
    # One loop's bell may still be waiting for the next loop to take its place.
    assert fds_after <= fds + 4
    assert threads_after <= threads + 1


CLOSED_WHILE_PENDING = """
import weakref

class Payload:
    pass

async def abandon(count):
    tasks = [asyncio.ensure_future(cache.aget(f"k{number}")) for number in range(count)]
    refs = [weakref.ref(task) for task in tasks]
    await asyncio.sleep(0)
    return refs

async def use():
    await cache.aset("k", "v")
    return await cache.aget("k")

assert run(use()) == "v"
report("ready")
for _ in range(3):
    wait_for_word()
    loop = open_runner(_request["loop"]).get_loop()
    refs = loop.run_until_complete(abandon(500))
    loop.call_exception_handler = lambda context: None
    loop.close()
    del loop
    report("abandoned")
    wait_for_word()
    assert run(use()) == "v"
    assert cache.get("k") == "v"
    assert run(use()) == "v"
    gc.collect()
    report(sum(ref() is not None for ref in refs))
report([fds(), threads()])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_closed_with_calls_pending_takes_nothing_with_it(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(CLOSED_WHILE_PENDING, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report() == "ready"
        for _ in range(3):
            fresh_server.pause()
            program.tell()
            assert program.report() == "abandoned"
            fresh_server.resume()
            program.tell()
            assert program.report() == 0, "the pending calls were not freed"
        assert len(fresh_server.clients()) == 1
        program.report()
        program.end()


def test_a_blocking_call_on_the_loops_own_thread_leaves_the_pending_ones_alone(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def main() -> None:
        for turn in range(30):
            pending = [asyncio.ensure_future(own_keys(cache, f"{turn}:{task}", 2)) for task in range(20)]
            await asyncio.sleep(0)
            cache.set("sync", turn)
            assert cache.get("sync") == turn
            assert await asyncio.gather(*pending) == [2] * 20

    run(main())


def test_a_blocking_call_inside_a_callback_of_a_reply_is_answered(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)
    cache.set("k", "v")

    async def main() -> None:
        seen: list[Any] = []
        futures = [asyncio.ensure_future(cache.aget("k")) for _ in range(10)]
        for future in futures:
            future.add_done_callback(lambda _: seen.append(cache.get("k")))
        await asyncio.gather(*futures)
        await asyncio.sleep(0)
        assert seen == ["v"] * 10

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_blocking_threads_and_a_loop_complete_each_other(server: ValkeyServer, loop: str) -> None:
    cache = make_cache(server)
    wrong: list[Any] = []

    def blocking(number: int) -> None:
        cache.set(f"t{number}", number)
        if (got := cache.get(f"t{number}")) != number:
            wrong.append((number, got))

    async def waiting(number: int) -> None:
        await cache.aset(f"a{number}", number)
        if (got := await cache.aget(f"a{number}")) != number:
            wrong.append((number, got))

    with (
        threads_under_load(4, blocking) as threads,
        loop_under_load(open_runner(loop), 20, waiting) as tasks,
    ):
        wait_until(lambda: threads.successes > 1000 and tasks.successes > 1000, timeout=60)
    assert wrong == []
    assert set(threads.counts) == set(tasks.counts) == {"success"}


def test_replies_that_a_blocking_thread_reads_reach_the_sleeping_loop(run: Any, fresh_server: ValkeyServer) -> None:
    """The loop is blocked while its replies arrive, so only the thread can have read them."""
    cache = make_cache(fresh_server)
    cache.set("k", "v")

    async def main() -> None:
        futures = [asyncio.ensure_future(cache.aget("k")) for _ in range(50)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        thread = threading.Thread(target=lambda: [cache.get("k") for _ in range(20)])
        thread.start()
        thread.join()
        assert await asyncio.wait_for(asyncio.gather(*futures), 10) == ["v"] * 50

    run(main())


NOT_CLOSED = """
import warnings, weakref
warnings.simplefilter("ignore", ResourceWarning)

async def use():
    await cache.aset("k", "v")
    assert await cache.aget("k") == "v"

async def begin(call):
    task = asyncio.ensure_future(call())
    for _ in range(5):
        await asyncio.sleep(0)
    return task

def abandon(call):
    "A loop that is neither closed nor kept, and a task on it whose reply is not there."
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(begin(call))
    loop.call_exception_handler = lambda context: None
    assert not task.done()
    return [weakref.ref(loop), weakref.ref(task)]

def alive(refs):
    gc.collect()
    return sum(ref() is not None for ref in refs)
"""

POPS = """
def waits():
    return cache.execute("CLIENT", "LIST").count(b"cmd=blpop")

async def pop():
    return await cache.aexecute("BLPOP", "queue", 0)

run(use()), run(use())
before = fds()
refs = []
gc.disable()
for number in range(5):
    refs += abandon(pop)
    while waits() <= number:
        time.sleep(0.005)
report(alive(refs))
run(use()), run(use())
patience = time.monotonic() + 10
while fds() > before and time.monotonic() < patience:
    time.sleep(0.01)
    run(use())
report([before, fds()])
wait_for_word()
"""


def test_a_loop_that_was_not_closed_is_freed_with_its_wait(fresh_server: ValkeyServer) -> None:
    """As any loop of asyncio that nobody has any more; uvloop never frees one that was not closed. The wait ends on the
    server too, so that it takes no element."""
    with Program(NOT_CLOSED + POPS, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == 0, "the loops or their tasks are still there"
        before, after = program.report()
        assert after <= before
        wait_until(lambda: len(fresh_server.clients()) == 1, what="the waits have ended on the server")
        assert fresh_server.execute("RPUSH", "queue", "x") == 1
        assert fresh_server.execute("LLEN", "queue") == 1
        program.tell()
        program.end()


GETS = """
run(use()), run(use())
before = fds()
report("ready")
wait_for_word()
refs = []
for number in range(5):
    refs += abandon(lambda: cache.aget("k"))
report(alive(refs))
wait_for_word()
run(use()), run(use())
assert cache.get("k") == "v"
report([before, fds()])
"""


def test_a_loop_that_was_not_closed_is_freed_with_its_call(fresh_server: ValkeyServer) -> None:
    """The reply comes when nobody is there any more, and is thrown away."""
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)
    with Program(NOT_CLOSED + GETS, {"default": setting}) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        still_there = program.report()
        fresh_server.resume()
        assert still_there == 0, "the loops or their tasks are still there"
        program.tell()
        before, after = program.report()
        assert after <= before
        program.end()
        assert int(fresh_server.info("stats")["total_connections_received"]) == 2


KEPT = """
run(use())
loop = open_runner(_request["loop"]).get_loop()
kept = loop.run_until_complete(begin(lambda: cache.aexecute("BLPOP", "queue", 0)))
del loop
for _ in range(3):
    gc.collect()
    run(use())
report("kept")
wait_for_word()
report(str(kept.get_loop().run_until_complete(kept)))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_that_somebody_has_is_not_freed(fresh_server: ValkeyServer, loop: str) -> None:
    """Its loop does not run, and has no other holder than the task; it may run again."""
    with Program(NOT_CLOSED + KEPT, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report() == "kept"
        wait_until(lambda: "blpop" in {client["cmd"] for client in fresh_server.clients()})
        fresh_server.execute("RPUSH", "queue", "x")
        program.tell()
        assert program.report() == "[b'queue', b'x']"
        program.end()


UNHELD = """
async def main():
    async def pop(number):
        results.append(await cache.aexecute("BLPOP", f"queue{number}", 0))

    results = []
    for number in range(20):
        # Nobody keeps these: what a task waits for does, as with any other input and output of the loop.
        asyncio.ensure_future(pop(number))
    while b"cmd=blpop" not in await cache.aexecute("CLIENT", "LIST"):
        await asyncio.sleep(0.005)
    gc.collect()
    for number in range(20):
        await cache.aexecute("RPUSH", f"queue{number}", "x")
        gc.collect()
    while len(results) < 20:
        await asyncio.sleep(0.005)
        gc.collect()
    report(len(results))

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_task_of_a_running_loop_that_nobody_has_is_not_freed(server: ValkeyServer, loop: str) -> None:
    assert run_program(UNHELD, {"default": cache_setting(server)}, loop) == 20
