"""Event loops come and go under guests: several in turn, several at once, closed ones, none at all."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from types import ModuleType
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS, begun, open_runner
from support.programs import Program, run_program
from support.server import ValkeyServer

IMPORTS = """
import probe_guest, quota_guest
"""

SHORT_LIVED = """
async def once(number):
    await cache.aexecute("SET", f"k{number}", number)
    assert await probe_guest.afetch(f"k{number}") == str(number).encode()
    await quota_guest.agrant(number, 2)
    got = await asyncio.gather(quota_guest.aspend(number), probe_guest.areply(["PING"]))
    assert got == [1, 'simple-string("PONG")']

def round(loops):
    for number in range(loops):
        run(once(number))

report_leftovers(round, 20, 200)
"""

THREADED = """
async def once(number):
    await quota_guest.agrant(number, 2)
    assert await quota_guest.aspend(number) == 1
    assert await probe_guest.areply(["ECHO", str(number)]) == f"bulk-string('\\"{number}\\"')"

def round(loops):
    for _ in range(loops):
        in_threads(4, lambda number: run(once(number)))

report_leftovers(round, 5, 50, lambda: probe_guest.fetch("nothing"))
"""

ASGIREF = """
from asgiref.sync import async_to_sync, sync_to_async

async def inner(number):
    await quota_guest.agrant(number, number)
    return (await quota_guest.aleft([number]))[0]

def middle(number):
    assert probe_guest.fetch("nothing") is None
    return async_to_sync(inner)(number)

async def outer(number):
    (left,) = await sync_to_async(quota_guest.left, thread_sensitive=False)([number])
    return await sync_to_async(middle)(number) + left + (await quota_guest.aleft([number]))[0]

def round(loops):
    for number in range(loops):
        assert async_to_sync(inner)(number) == number
        assert async_to_sync(outer)(number) == 3 * number

report_leftovers(round, 10, 100)
"""


@pytest.mark.parametrize("source", [SHORT_LIVED, THREADED, ASGIREF], ids=["run", "threads", "asgiref"])
@pytest.mark.parametrize("loop", LOOPS)
def test_many_short_lived_loops_leave_nothing_behind(server: ValkeyServer, loop: str, source: str) -> None:
    (fds, threads), (fds_after, threads_after) = run_program(IMPORTS + source, {"default": cache_setting(server)}, loop)
    # One loop's bell may still be waiting for the next loop to take its place.
    assert fds_after <= fds + 4
    assert threads_after <= threads + 1


CLOSED_WHILE_PENDING = """
import weakref

class Payload(bytes):
    pass

async def use():
    assert await cache.aexecute("SET", "k", "v") == b"OK"
    return await probe_guest.afetch("k")

async def abandon():
    calls = [probe_guest.afetch("k") for _ in range(200)]
    calls += [quota_guest.aspend(number) for number in range(200)]
    calls += [probe_guest.apop("queue", 0) for _ in range(3)]
    calls += [probe_guest.aecho(payload) for _ in range(200)]
    futures = [begun(call) for call in calls]
    await asyncio.sleep(0)
    return [weakref.ref(future) for future in futures]

payload = os.urandom(1000)
assert run(use()) == b"v"
report("ready")
for _ in range(3):
    wait_for_word()
    loop = open_runner(_request["loop"]).get_loop()
    refs = loop.run_until_complete(abandon())
    loop.call_exception_handler = lambda context: None
    loop.close()
    del loop
    report("abandoned")
    wait_for_word()
    assert run(use()) == b"v"
    assert probe_guest.fetch("k") == b"v"
    assert run(use()) == b"v"
    gc.collect()
    report([sum(ref() is not None for ref in refs), sys.getrefcount(payload)])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_closed_with_calls_pending_takes_nothing_with_it(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(IMPORTS + CLOSED_WHILE_PENDING, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report() == "ready"
        for _ in range(3):
            fresh_server.pause()
            program.tell()
            assert program.report() == "abandoned"
            fresh_server.resume()
            program.tell()
            alive, references = program.report()
            assert alive == 0, "the pending calls were not freed"
            assert references < 5
        program.end()


@pytest.mark.parametrize("second", LOOPS)
@pytest.mark.parametrize("first", LOOPS)
def test_two_loops_at_once_get_their_own_replies(
    server: ValkeyServer, cache: Any, probe: ModuleType, quota: ModuleType, first: str, second: str
) -> None:
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    async def own(name: str, project: int) -> None:
        for turn in range(20):
            await cache.aexecute("SET", f"{name}:{turn}", f"{name}={turn}")
            await quota.agrant(project, turn + 1)
            got = await asyncio.gather(probe.afetch(f"{name}:{turn}"), quota.aspend(project))
            assert got == [f"{name}={turn}".encode(), turn]

    def body(loop: str, name: str, offset: int) -> None:
        async def main() -> None:
            barrier.wait()
            await asyncio.gather(*(own(f"{name}{task}", offset + task) for task in range(25)))

        try:
            with open_runner(loop) as runner:
                runner.run(main())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=args) for args in ((first, "a", 0), (second, "b", 1000))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_without_a_running_loop_the_awaited_form_says_what_to_call(
    cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    for call in (probe.aconnection_id, lambda: quota.aspend(1), lambda: probe.apanics(False)):
        with pytest.raises(RuntimeError, match="no asyncio loop runs on this thread"):
            call().send(None)
    payload = bytes(1000)
    references = sys.getrefcount(payload)
    for _ in range(10):
        with pytest.raises(RuntimeError):
            probe.aecho(payload).send(None)
    assert sys.getrefcount(payload) == references, "what was not started is let go of"
    assert probe.connection_id() == cache.execute("CLIENT", "ID")


def test_in_a_thread_beside_a_running_loop_there_is_none(run: Any, cache: Any, quota: ModuleType) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no asyncio loop"):
            await asyncio.to_thread(quota.aspend(1).send, None)
        assert await quota.aspend(1) is None

    run(main())


def test_a_blocking_call_on_the_loops_own_thread_leaves_the_pending_ones_alone(
    run: Any, server: ValkeyServer, cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    server.execute("SET", "k", "v")

    async def main() -> None:
        seen: list[Any] = []
        for turn in range(30):
            calls = [probe.afetch("k") for _ in range(20)] + [quota.aspend(number) for number in range(20)]
            pending = [begun(call) for call in calls]
            pending[0].add_done_callback(lambda _: seen.append(probe.fetch("k")))
            if turn % 2:
                await asyncio.sleep(0)
            assert quota.left([1]) == [0]
            assert probe.fetch("k") == b"v"
            assert await asyncio.gather(*pending) == [b"v"] * 20 + [None] * 20
            await asyncio.sleep(0)
        assert seen == [b"v"] * 30

    run(main())


def test_what_is_awaited_is_a_coroutine_that_waits_for_a_future_of_the_loop(
    run: Any, cache: Any, probe: ModuleType
) -> None:
    assert inspect.iscoroutinefunction(probe.aconnection_id)
    assert not inspect.iscoroutinefunction(probe.connection_id)

    async def main() -> None:
        future = begun(probe.aconnection_id())
        assert isinstance(future, asyncio.Future)
        assert future.get_loop() is asyncio.get_running_loop()
        assert await future == await asyncio.create_task(probe.aconnection_id())
        forgotten = probe.aconnection_id()
        with pytest.raises(TypeError, match=r"aconnection_id\(\) was not awaited"):
            bool(forgotten)
        forgotten.close()

    run(main())
    assert run(probe.aconnection_id()) == probe.connection_id()


def test_one_that_was_never_awaited_warns_and_sends_nothing(
    server: ValkeyServer, cache: Any, probe: ModuleType
) -> None:
    with pytest.warns(RuntimeWarning, match="coroutine 'areply' was never awaited"):
        probe.areply(["SET", "k", "v"])
    assert server.keys() == []


def test_context_variables_are_the_callers(run: Any, cache: Any, probe: ModuleType) -> None:
    import contextvars

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")

    async def ask(number: int) -> int:
        variable.set(number)
        await probe.afetch("nothing")
        return variable.get()

    async def main() -> None:
        assert await asyncio.gather(*(ask(number) for number in range(50))) == list(range(50))

    run(main())
