"""Commands that the server sits on (BLPOP, BLMOVE, XREAD BLOCK) get a connection of their own, which is
used again, and given up when the caller goes away; the shared connection answers meanwhile.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS
from support.fake import FakeServer, Peer
from support.programs import Program
from support.server import ValkeyServer, wait_until

HANG = 10.0


def blocked(server: ValkeyServer, name: str = "blpop") -> list[str]:
    """The ids of the clients that a blocking command keeps waiting."""
    return [client["id"] for client in server.clients() if client["cmd"] == name and "b" in client["flags"]]


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(HANG):
        while not condition():  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.005)


WAITERS = {
    "blpop": (("BLPOP", "queue", 0), [b"queue", b"x"]),
    "brpop": (("BRPOP", "queue", 0), [b"queue", b"x"]),
    "blmove": (("BLMOVE", "queue", "other", "LEFT", "RIGHT", 0), b"x"),
    "blmpop": (("BLMPOP", 0, 1, "queue", "LEFT"), [b"queue", [b"x"]]),
}


@pytest.mark.parametrize("name", WAITERS)
def test_the_shared_connection_answers_while_a_task_waits(run: Any, fresh_server: ValkeyServer, name: str) -> None:
    cache = make_cache(fresh_server)
    command, expected = WAITERS[name]

    async def main() -> None:
        shared = await cache.aexecute("CLIENT", "ID")
        waiting = asyncio.ensure_future(cache.aexecute(*command))
        await until(lambda: blocked(fresh_server, name))
        assert len(fresh_server.clients()) == 2
        for number in range(100):
            await cache.aset("k", number)
            assert await cache.aget("k") == number
        assert cache.get("k") == 99
        assert await cache.aexecute("CLIENT", "ID") == shared
        assert not waiting.done()
        await cache.aexecute("RPUSH", "queue", "x")
        async with asyncio.timeout(HANG):
            assert await waiting == expected

    run(main())


@pytest.mark.parametrize("name", WAITERS)
def test_the_shared_connection_answers_while_a_thread_waits(fresh_server: ValkeyServer, name: str) -> None:
    cache = make_cache(fresh_server)
    command, expected = WAITERS[name]
    results: list[Any] = []
    waiting = threading.Thread(target=lambda: results.append(cache.execute(*command)), daemon=True)
    waiting.start()
    wait_until(lambda: blocked(fresh_server, name))
    for number in range(100):
        cache.set("k", number)
        assert cache.get("k") == number
    assert results == []
    cache.execute("RPUSH", "queue", "x")
    waiting.join(HANG)
    assert results == [expected]
    assert len(fresh_server.clients()) == 2


def test_xread_block_waits_for_the_next_entry(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server)

    async def main() -> None:
        waiting = asyncio.ensure_future(cache.aexecute("XREAD", "BLOCK", 0, "STREAMS", "s", "$"))
        await until(lambda: blocked(fresh_server, "xread"))
        entry = await cache.aexecute("XADD", "s", "*", "f", "v")
        async with asyncio.timeout(HANG):
            assert await waiting == {b"s": [[entry, [b"f", b"v"]]]}
        # Without BLOCK it does not block, so it needs no connection of its own.
        assert await cache.aexecute("XREAD", "STREAMS", "s", "0") == {b"s": [[entry, [b"f", b"v"]]]}
        assert len(fresh_server.clients()) == 2

    run(main())


NAMED_BLOCK = [
    ("XREAD", "STREAMS", "block", "0"),
    ("XREAD", "COUNT", "2", "STREAMS", "a", "block", "0", "0"),
    ("XREADGROUP", "GROUP", "block", "0", "STREAMS", "s", ">"),
    ("XREADGROUP", "GROUP", "g", "block", "COUNT", "1", "STREAMS", "block", ">"),
]


@pytest.mark.parametrize("command", NAMED_BLOCK, ids=" ".join)
def test_what_is_called_block_is_no_option(drive: Any, command: tuple[str, ...]) -> None:
    """It has the usual deadline, on the shared connection."""
    from django_vcache.exceptions import TimeoutError

    def silent(peer: Peer) -> None:
        peer.shake_hands()
        for received in peer.commands():
            if received == [b"PING"]:
                peer.send(b"+PONG\r\n")
            elif peer.number > 1 and not any(number == 1 for number, _ in fake.received(command[0])):
                peer.send(b"-ERR it got a connection to itself\r\n")

    with FakeServer(silent) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=0.3))
        cache.execute("PING")
        with pytest.raises((TimeoutError, ConnectionError)):
            cache.execute(*command)


@pytest.mark.parametrize(
    "command",
    [
        ("BLPOP", "nothing", 0.05),
        ("BLMOVE", "nothing", "other", "LEFT", "RIGHT", 0.05),
        ("XREAD", "BLOCK", 50, "STREAMS", "nothing", "$"),
    ],
    ids=lambda command: command[0],
)
def test_the_end_of_the_wait_is_none(drive: Any, fresh_server: ValkeyServer, command: tuple[Any, ...]) -> None:
    cache = drive(make_cache(fresh_server))
    assert cache.execute(*command) is None


def test_a_wait_longer_than_the_response_timeout_is_no_time_out(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = drive(make_cache(fresh_server, RESPONSE_TIMEOUT=0.3))
    assert cache.execute("BLPOP", "nothing", 1) is None
    assert cache.execute("PING") == b"PONG"


def test_the_dedicated_connection_serves_the_next_blocking_command(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = drive(make_cache(fresh_server))
    for _ in range(10):
        cache.execute("RPUSH", "queue", "x")
        assert cache.execute("BLPOP", "queue", 1) == [b"queue", b"x"]
    assert len(fresh_server.clients()) == 2
    assert int(fresh_server.info("stats")["total_connections_received"]) == 3


def test_a_dedicated_connection_that_died_is_replaced(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = drive(make_cache(fresh_server))
    cache.execute("RPUSH", "queue", "x", "y")
    assert cache.execute("BLPOP", "queue", 1) == [b"queue", b"x"]
    fresh_server.execute("CLIENT", "KILL", "TYPE", "normal")
    wait_until(lambda: fresh_server.clients() == [])
    threading.Event().wait(0.05)
    assert cache.execute("BLPOP", "queue", 1) == [b"queue", b"y"]


def test_many_may_wait_at_once(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server)

    async def main() -> None:
        waiting = [asyncio.ensure_future(cache.aexecute("BLPOP", f"queue {number}", 0)) for number in range(20)]
        await until(lambda: len(blocked(fresh_server)) == 20)
        for number in reversed(range(20)):
            await cache.aexecute("RPUSH", f"queue {number}", f"x{number}")
        async with asyncio.timeout(HANG):
            results = await asyncio.gather(*waiting)
        assert results == [[f"queue {number}".encode(), f"x{number}".encode()] for number in range(20)]
        # A few are kept for the next.
        await until(lambda: len(fresh_server.clients()) <= 5)

    run(main())


@pytest.mark.parametrize("how", ["cancel", "wait_for"])
def test_a_cancelled_wait_loses_no_element(run: Any, fresh_server: ValkeyServer, how: str) -> None:
    cache = make_cache(fresh_server)

    async def main() -> None:
        await cache.aset("k", "v")
        for _ in range(5):
            waiting = asyncio.ensure_future(cache.aexecute("BLPOP", "queue", 0))
            if how == "cancel":
                await until(lambda: blocked(fresh_server))
                waiting.cancel()
            with pytest.raises((TimeoutError, asyncio.CancelledError)):
                await asyncio.wait_for(waiting, 0.05)
            await until(lambda: not blocked(fresh_server))
            assert await cache.aexecute("RPUSH", "queue", "x") == 1
            assert await cache.aexecute("LLEN", "queue") == 1
            assert await cache.aexecute("BLPOP", "queue", 0) == [b"queue", b"x"]
            assert await cache.aget("k") == "v"

    run(main())


def test_a_wait_cancelled_before_it_is_connected_is_never_sent(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, CONNECT_TIMEOUT=20.0, RESPONSE_TIMEOUT=20.0)

    async def main() -> None:
        await cache.aset("k", "v")
        fresh_server.execute("CONFIG", "RESETSTAT")
        fresh_server.pause()
        waiting = asyncio.ensure_future(cache.aexecute("BLPOP", "queue", 0))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.sleep(0)
        fresh_server.resume()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await cache.aexecute("RPUSH", "queue", "x") == 1
        await until(lambda: len(fresh_server.clients()) == 1)
        assert await cache.aexecute("LLEN", "queue") == 1
        assert "blpop" not in fresh_server.command_counts()

    run(main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_wait_on_a_closed_loop_is_given_up(fresh_server: ValkeyServer, loop: str) -> None:
    source = """
        async def wait():
            waiting = asyncio.ensure_future(cache.aexecute("BLPOP", "queue", 0))
            while b"cmd=blpop" not in await cache.aexecute("CLIENT", "LIST"):
                await asyncio.sleep(0.005)

        async def use():
            return await cache.aget("k")

        closed = open_runner(_request["loop"]).get_loop()
        closed.run_until_complete(wait())
        closed.close()
        del closed
        gc.collect()
        run(use()), run(use())
        report("closed")
        wait_for_word()
    """
    with Program(source, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report() == "closed"
        wait_until(lambda: not blocked(fresh_server), what="the connection of the closed loop's BLPOP is gone")
        assert fresh_server.execute("RPUSH", "queue", "x") == 1
        assert fresh_server.execute("LLEN", "queue") == 1


INTERRUPTED = """
def strike():
    wait_for_word()
    # It ends no sleep of the main thread's, as one does not that comes a moment before the sleep.
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


threading.Thread(target=strike, daemon=True).start()
cache.get("warm")
if _request["loop"] == "uvloop":
    # The main thread is not the one that polls: another one waits already.
    threading.Thread(target=cache.execute, args=("BLPOP", "other", 0), daemon=True).start()
    while b"cmd=blpop" not in cache.execute("CLIENT", "LIST"):
        time.sleep(0.005)
report("waiting")
try:
    cache.execute("BLPOP", "queue", 0)
except KeyboardInterrupt:
    report("interrupted")
report(cache.get("warm", "alive"))
os._exit(0)
"""


@pytest.mark.parametrize("unheard", [False, True], ids=["heard", "unheard"])
@pytest.mark.parametrize("who", ["asyncio", "uvloop"], ids=["as the reader", "parked"])
def test_ctrl_c_ends_a_blocking_wait(fresh_server: ValkeyServer, who: str, unheard: bool) -> None:
    with Program(INTERRUPTED, {"default": cache_setting(fresh_server)}, who) as program:
        assert program.report() == "waiting"
        wait_until(lambda: len(blocked(fresh_server)) == (1 if who == "asyncio" else 2))
        if unheard:
            program.tell()
        else:
            os.kill(program.pid, signal.SIGINT)
        assert program.report(HANG) == "interrupted"
        assert program.report(HANG) == "alive"
        wait_until(lambda: len(fresh_server.clients()) == 0)
        assert fresh_server.execute("RPUSH", "queue", "x") == 1
        assert fresh_server.execute("LLEN", "queue") == 1


def test_a_signal_with_a_handler_does_not_end_the_wait(fresh_server: ValkeyServer) -> None:
    source = """
signal.signal(signal.SIGUSR1, lambda *_: report("handled"))
report("ready")
report(cache.execute("BLPOP", "queue", 0) == [b"queue", b"x"])
"""
    with Program(source, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == "ready"
        wait_until(lambda: blocked(fresh_server))
        for _ in range(3):
            os.kill(program.pid, signal.SIGUSR1)
            assert program.report(HANG) == "handled"
        fresh_server.execute("RPUSH", "queue", "x")
        assert program.report(HANG) is True
        program.end()


def test_a_blocking_command_on_a_killed_server_is_an_error(drive: Any, fresh_server: ValkeyServer) -> None:
    from django_vcache.exceptions import ConnectionError

    cache = drive(make_cache(fresh_server))
    cache.get("warm")
    timer = threading.Timer(0.2, fresh_server.kill)
    timer.start()
    with pytest.raises(ConnectionError):
        cache.execute("BLPOP", "queue", 0)
    timer.join()
