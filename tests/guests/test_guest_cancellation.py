"""Cancelled calls of guests: their neighbours get their own replies, what was not sent never is, what the server sits
on is given up there too, and nothing is left of thousands of them.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS, begun
from support.guests import default_on
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until


def fill(server: ValkeyServer, count: int) -> list[bytes]:
    for number in range(count):
        server.execute("SET", f"k{number}", f"value {number}")
    return [f"value {number}".encode() for number in range(count)]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is the server's
            await asyncio.sleep(0.005)


def blocked(server: ValkeyServer) -> list[dict[str, str]]:
    return [client for client in server.clients() if client["cmd"] == "blpop"]


def test_a_cancelled_call_disturbs_no_other(run: Any, server: ValkeyServer, cache: Any, probe: ModuleType) -> None:
    values = fill(server, 100)

    async def main() -> None:
        for turn in range(50):
            futures = [
                (probe.afetch(f"k{number}") if number % 2 else cache.aexecute("GET", f"k{number}"))
                for number in range(100)
            ]
            tasks = [asyncio.ensure_future(future) for future in futures]
            # Before they are sent, after it, and when the replies are there.
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            tasks[turn].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            for number, result in enumerate(results):
                if number != turn or not isinstance(result, asyncio.CancelledError):
                    assert result == values[number]

    run(main())


def test_a_script_cancelled_at_any_moment_leaves_the_connection_right(
    run: Any, server: ValkeyServer, cache: Any, quota: ModuleType
) -> None:
    async def main() -> None:
        own = await quota.aconnection_id()
        await quota.agrant(1, 100_000)
        spent = 0
        for turn in range(200):
            # Without the script the hot path asks, loads and asks again, and may be cancelled between any of these.
            if turn % 3 == 0:
                await cache.aexecute("SCRIPT", "FLUSH")
            future = asyncio.ensure_future(quota.aspend(1))
            for _ in range(turn % 8):
                await asyncio.sleep(0)
            future.cancel()
            try:
                await future
                spent += 1
            except asyncio.CancelledError:
                pass
            assert await quota.aleft([2, 3, 4]) == [0, 0, 0]
        (left,) = await quota.aleft([1])
        assert 100_000 - 200 <= left <= 100_000 - spent
        assert await quota.aconnection_id() == own

    run(main())


def test_cancelled_calls_on_a_silent_server_end_at_once(
    run: Any, fresh_server: ValkeyServer, probe: ModuleType
) -> None:
    values = fill(fresh_server, 100)

    async def main() -> None:
        own = await probe.aconnection_id()
        fresh_server.pause()
        try:
            futures = [asyncio.ensure_future(probe.afetch(f"k{number}")) for number in range(100)]
            await asyncio.sleep(0.01)
            for future in futures[::2]:
                future.cancel()
            async with asyncio.timeout(10):
                gone = await asyncio.gather(*futures[::2], return_exceptions=True)
            assert {type(error) for error in gone} == {asyncio.CancelledError}
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(probe.afetch("k0"), 0.02)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(futures[1]), 0.02)
            assert not any(future.done() for future in futures[1::2])
        finally:
            fresh_server.resume()
        assert await asyncio.gather(*futures[1::2]) == values[1::2]
        assert await asyncio.gather(*(probe.afetch(f"k{number}") for number in range(100))) == values
        assert await probe.aconnection_id() == own

    with default_on(fresh_server, RESPONSE_TIMEOUT=30.0):
        run(main())


def test_a_cancelled_gather_cancels_all_of_it(run: Any, fresh_server: ValkeyServer, probe: ModuleType) -> None:
    values = fill(fresh_server, 20)

    async def main() -> None:
        await probe.aconnection_id()
        fresh_server.pause()
        try:
            gathered = asyncio.gather(*(probe.afetch(f"k{number}") for number in range(20)))
            await asyncio.sleep(0)
            gathered.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gathered
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await asyncio.gather(*(probe.afetch(f"k{number}") for number in range(20)))
        finally:
            fresh_server.resume()
        assert await asyncio.gather(*(probe.afetch(f"k{number}") for number in range(20))) == values

    with default_on(fresh_server, RESPONSE_TIMEOUT=30.0):
        run(main())


def test_calls_cancelled_while_there_is_no_connection_are_never_sent(
    run: Any, fresh_server: ValkeyServer, probe: ModuleType, quota: ModuleType
) -> None:
    async def main() -> None:
        fresh_server.execute("CONFIG", "RESETSTAT")
        fresh_server.pause()
        try:
            futures = [asyncio.ensure_future(probe.areply(["INCR", "n"])) for _ in range(20)]
            futures += [asyncio.ensure_future(quota.agrant(1, 5)) for _ in range(20)]
            kept = asyncio.ensure_future(probe.areply(["INCR", "kept"]))
            await asyncio.sleep(0.02)
            for future in futures:
                future.cancel()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(probe.areply(["INCR", "n"]), 0.02)
            # Their cancellation is seen within the iteration after it.
            await asyncio.sleep(0)
        finally:
            fresh_server.resume()
        assert await kept == "int(1)"
        assert await probe.afetch("n") is None
        assert await quota.aleft([1]) == [0]
        counts = fresh_server.command_counts()
        assert counts["incr"] == 1
        assert "setex" not in counts

    with default_on(fresh_server, RESPONSE_TIMEOUT=20.0, CONNECT_TIMEOUT=20.0):
        run(main())


@pytest.mark.parametrize("how", ["cancel", "wait_for"])
def test_a_cancelled_wait_is_given_up_by_the_server_and_loses_no_element(
    run: Any, fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, how: str
) -> None:
    async def main() -> None:
        own = await probe.aconnection_id()
        for turn in range(3):
            # Begun at once: a connection that waits for its next command looks like one that is blocked.
            waiting = begun(probe.apop("queue", 0))
            await until(lambda: blocked(fresh_server))
            if how == "cancel":
                waiting.cancel()
            with pytest.raises((TimeoutError, asyncio.CancelledError)):
                await asyncio.wait_for(waiting, 0.05)
            await until(lambda: not blocked(fresh_server))
            await fresh_cache.aexecute("RPUSH", "queue", f"element {turn}")
            assert await fresh_cache.aexecute("LLEN", "queue") == 1
            assert await probe.apop("queue", 0) == ("queue", f"element {turn}")
        assert await probe.aconnection_id() == own

    run(main())


def test_waits_beside_calls(run: Any, fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType) -> None:
    async def main() -> None:
        waiting = [asyncio.ensure_future(probe.apop(f"queue {number}", 0)) for number in range(10)]
        await until(lambda: len(blocked(fresh_server)) == 10)
        own = await probe.aconnection_id()
        for future in waiting[::2]:
            future.cancel()
        await until(lambda: len(blocked(fresh_server)) == 5)
        for number in range(10):
            await fresh_cache.aexecute("RPUSH", f"queue {number}", "x")
        assert await asyncio.gather(*waiting[1::2]) == [(f"queue {number}", "x") for number in range(1, 10, 2)]
        assert await probe.apop("nothing", 0.05) is None
        assert await probe.aconnection_id() == own

    run(main())


MANY = """
import probe_guest, quota_guest

payload = os.urandom(1000)

async def cancel(count):
    futures = []
    for number in range(count // 4):
        futures.append(begun(probe_guest.aecho(payload)))
        futures.append(begun(probe_guest.afetch(f"k{number % 100}")))
        futures.append(begun(quota_guest.aspend(number % 10)))
        futures.append(asyncio.ensure_future(probe_guest.apipeline([["PING"], ["GET", "k1"]], True)))
        # Some are never sent, some are, and some are answered.
        if number % 100 == 0:
            await asyncio.sleep(0)
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
    del futures
    results = await asyncio.gather(*(probe_guest.afetch(f"k{number}") for number in range(100)))
    assert results == [f"value {number}".encode() for number in range(100)]
    assert await probe_guest.aecho(b"own") == b"own"

async def main():
    own = await probe_guest.aconnection_id()
    for number in range(100):
        await cache.aexecute("SET", f"k{number}", f"value {number}")
    measured = []
    for turn in range(24):
        await cancel(10_000)
        await asyncio.sleep(0)
        gc.collect()
        measured.append([rss(), len(gc.get_objects()), sys.getrefcount(payload), fds(), threads()])
    assert await probe_guest.aconnection_id() == own
    report(measured)

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_cancelled_calls_a_round_leave_nothing_behind(server: ValkeyServer, loop: str) -> None:
    measured = run_program(MANY, {"default": cache_setting(server)}, loop)
    sizes, objects, references, descriptors, threads = zip(*measured, strict=True)
    # The allocators' pools grow by whole pieces, now and then by 8 MiB at once. A leak would grow in each
    # round; 50 bytes a call are allowed.
    growth = statistics.median(after - before for before, after in itertools.pairwise(sizes[2:]))
    assert growth < 10_000 * 50, sizes
    assert objects[-1] - objects[2] < 500, objects
    assert references[-1] == references[0] < 5, references
    assert descriptors[-1] <= descriptors[1], descriptors
    assert threads[-1] <= threads[1], threads


FORGOTTEN = """
import probe_guest

payload = os.urandom(1000)

async def forget(count):
    for _ in range(count):
        begun(probe_guest.aecho(payload))
    await probe_guest.aecho(payload)

for _ in range(5):
    run(forget(2000))
gc.collect()
report(sys.getrefcount(payload))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_that_nobody_awaits_let_go_of_their_arguments(server: ValkeyServer, loop: str) -> None:
    assert run_program(FORGOTTEN, {"default": cache_setting(server)}, loop) < 5


INTERRUPTED = """
import probe_guest, signal

signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(LookupError))
payload = os.urandom(1000)
probe_guest.echo(payload)
report("ready")
wait_for_word()
for _ in range(50):
    signal.setitimer(signal.ITIMER_REAL, 0.002)
    try:
        probe_guest.echo(payload)
        raise AssertionError
    except LookupError:
        pass
report([sys.getrefcount(payload), fds()])
wait_for_word()
assert probe_guest.echo(b"own") == b"own"
report(sys.getrefcount(payload))
"""


def test_interrupted_blocking_calls_leave_nothing_behind(fresh_server: ValkeyServer) -> None:
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=30.0)
    with Program(INTERRUPTED, {"default": setting}) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        references, _ = program.report()
        fresh_server.resume()
        program.tell()
        assert references < 5
        assert program.report() < 5
        program.end()
    wait_until(lambda: fresh_server.clients() == [])
