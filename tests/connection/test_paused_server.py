"""A server that stops answering without closing anything (SIGSTOP): calls end in TimeoutError after
RESPONSE_TIMEOUT, whoever waits beside them, the loop goes on, and after SIGCONT everything works again.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.load import failures, works_again
from support.server import ValkeyServer, wait_until
from support.ticks import ticking

LIMITS = {"RESPONSE_TIMEOUT": 0.5, "CONNECT_TIMEOUT": 0.5}
# Tells a hang from a time-out; it is no claim about speed.
HANG = 10.0


def timeout_error() -> type[Exception]:
    from django_vcache.exceptions import TimeoutError

    return TimeoutError


def in_daemon(call: Callable[[], Any]) -> Callable[[], BaseException | Any]:
    """Start `call` in a thread; the returned function joins it and gives its result or exception."""
    outcome: list[Any] = []

    def body() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=body, daemon=True)
    thread.start()

    def join() -> Any:
        thread.join(HANG)
        assert outcome, "the call hangs"
        return outcome[0]

    return join


def test_a_blocking_call_times_out_and_later_ones_fail_until_the_server_is_back(fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, **LIMITS)
    cache.set("k", "v")
    fresh_server.pause()
    try:
        error = in_daemon(lambda: cache.get("k"))()
        assert isinstance(error, timeout_error()), error
        assert "0.5 s" in str(error)
        for _ in range(3):
            assert isinstance(in_daemon(lambda: cache.get("k"))(), failures())
    finally:
        fresh_server.resume()
    wait_until(lambda: works_again(cache))
    assert cache.get("k") == "v"


def test_threads_time_out_all_of_them(fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, **LIMITS)
    cache.set("k", "v")
    fresh_server.pause()
    try:
        joins = [in_daemon(lambda: cache.get("k")) for _ in range(12)]
        assert {type(join()) for join in joins} == {timeout_error()}
    finally:
        fresh_server.resume()
    wait_until(lambda: works_again(cache))
    joins = [in_daemon(lambda: cache.get("k")) for _ in range(12)]
    assert {join() for join in joins} == {"v"}


def test_awaited_calls_time_out_while_the_loop_goes_on(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, **LIMITS)

    async def main() -> None:
        await cache.aset("k", "v")
        fresh_server.pause()
        try:
            async with ticking() as ticker, asyncio.timeout(HANG):
                results = await asyncio.gather(*(cache.aget("k") for _ in range(100)), return_exceptions=True)
                assert {type(result) for result in results} == {timeout_error()}
                assert ticker.ticks > 5, "the loop was blocked"
                late = await asyncio.gather(*(cache.aget("k") for _ in range(10)), return_exceptions=True)
                assert all(isinstance(error, failures()) for error in late)
        finally:
            fresh_server.resume()
        async with asyncio.timeout(HANG):
            while True:
                try:
                    assert await cache.aget("k") == "v"
                    break
                except failures():
                    await asyncio.sleep(0.01)

    run(main())


def test_a_call_on_a_paused_server_that_resumes_in_time_is_answered(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = drive(make_cache(fresh_server, RESPONSE_TIMEOUT=20.0))
    cache.set("k", "v")
    fresh_server.pause()
    timer = threading.Timer(0.2, fresh_server.resume)
    timer.start()
    assert cache.get("k") == "v"
    timer.join()


def test_a_first_connection_to_a_paused_server_ends_in_an_error(drive: Any, fresh_server: ValkeyServer) -> None:
    fresh_server.pause()
    try:
        with pytest.raises(failures(), match=r"CONNECT_TIMEOUT|within 0\.5 s"):
            drive(make_cache(fresh_server, **LIMITS)).get("k")
    finally:
        fresh_server.resume()


@pytest.mark.parametrize("longest", ["a command that blocks for ever", "another alias with a longer time-out"])
def test_a_thread_that_waits_longer_does_not_keep_others_from_their_time_out(
    fresh_server: ValkeyServer, longest: str
) -> None:
    cache = make_cache(fresh_server, **LIMITS)
    patient = make_cache(fresh_server, RESPONSE_TIMEOUT=60.0)
    cache.set("k", "v"), patient.set("k", "v")
    if longest.startswith("a command"):
        waiting = in_daemon(lambda: cache.execute("BLPOP", "queue", 0))
        wait_until(lambda: "blpop" in {client["cmd"] for client in fresh_server.clients()})
    else:
        fresh_server.pause()
        waiting = in_daemon(lambda: patient.get("k"))
    # The deadlines of the calls above are past, so nothing but the next call's own can wake anybody.
    threading.Event().wait(3 * LIMITS["RESPONSE_TIMEOUT"])
    if longest.startswith("a command"):
        fresh_server.pause()
    try:
        error = in_daemon(lambda: cache.get("k"))()
        assert isinstance(error, timeout_error()), error
    finally:
        fresh_server.resume()
        fresh_server.execute("RPUSH", "queue", "element")
    assert waiting() in ([b"queue", b"element"], "v")


def test_a_loop_notices_a_time_out_beside_a_thread_that_waits_for_ever(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, **LIMITS)
    cache.set("k", "v")
    waiting = in_daemon(lambda: cache.execute("BLPOP", "queue", 0))
    wait_until(lambda: "blpop" in {client["cmd"] for client in fresh_server.clients()})
    fresh_server.pause()

    async def main() -> None:
        async with asyncio.timeout(HANG):
            with pytest.raises(timeout_error()):
                await cache.aget("k")

    try:
        run(main())
    finally:
        fresh_server.resume()
        fresh_server.execute("RPUSH", "queue", "element")
    assert waiting() == [b"queue", b"element"]
