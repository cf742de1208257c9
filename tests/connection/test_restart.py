"""A server that is killed and started again under load: every call is answered or fails with one of the
documented errors, what was acknowledged is there afterwards, and nothing has to be restarted here.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from support.caches import make_cache
from support.driver import LOOPS, open_runner
from support.load import Account, failures, loop_under_load, threads_under_load
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 2.0, "CONNECT_TIMEOUT": 2.0}


@pytest.fixture
def durable_server() -> Iterator[ValkeyServer]:
    """A server that has what it acknowledged on disk."""
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


def restarts(server: ValkeyServer, account: Account, times: int) -> None:
    """Kill and restart the server, each time once calls have succeeded, failed, and succeeded again."""
    for _ in range(times):
        before = Counter(account.counts)
        wait_until(lambda before=before: account.successes > before["success"] + 50, timeout=30)
        server.kill()
        failed = account.counts.total() - account.successes
        wait_until(lambda failed=failed: account.counts.total() - account.successes > failed, timeout=30)
        server.restart()
        back = account.successes
        wait_until(lambda back=back: account.successes > back + 50, timeout=30)


@contextmanager
def load(kind: str, cache: Any, make: Callable[[Any], Any], amake: Callable[[Any], Any]) -> Iterator[Account]:
    if kind == "threads":
        with threads_under_load(6, make(cache)) as account:
            yield account
    else:
        with loop_under_load(open_runner(kind), 30, amake(cache)) as account:
            yield account


@pytest.mark.parametrize("address", ["url", "tcp_url"])
@pytest.mark.parametrize("kind", ["threads", *LOOPS])
def test_what_was_acknowledged_before_the_kill_is_there_after_it(
    durable_server: ValkeyServer, kind: str, address: str
) -> None:
    cache = make_cache(getattr(durable_server, address), **LIMITS)
    acknowledged: dict[int, str] = {}
    wrong: list[Any] = []

    def check(number: int, value: Any) -> None:
        if value != f"value {number}":
            wrong.append((number, value))

    def blocking(cache: Any) -> Callable[[int], Any]:
        def call(number: int) -> None:
            cache.set(f"k{number}", f"value {number}")
            acknowledged[number] = f"value {number}"
            check(number, cache.get(f"k{number}"))

        return call

    def awaiting(cache: Any) -> Callable[[int], Any]:
        async def call(number: int) -> None:
            await cache.aset(f"k{number}", f"value {number}")
            acknowledged[number] = f"value {number}"
            check(number, await cache.aget(f"k{number}"))

        return call

    with load(kind, cache, blocking, awaiting) as account:
        restarts(durable_server, account, 3)
    assert wrong == []
    assert set(account.counts) - {"success"} <= {"ConnectionError", "TimeoutError"}
    found = cache.get_many([f"k{number}" for number in acknowledged])
    assert found == {f"k{number}": value for number, value in acknowledged.items()}


@pytest.mark.parametrize("kind", ["threads", *LOOPS])
def test_an_increment_is_never_executed_twice_nor_acknowledged_without(durable_server: ValkeyServer, kind: str) -> None:
    """A failed one may or may not have been executed, so the counter lies between the two accounts."""
    cache = make_cache(durable_server, **LIMITS)
    tried, succeeded = [0] * 64, [0] * 64

    def blocking(cache: Any) -> Callable[[int], Any]:
        def call(number: int) -> None:
            worker = number % 6
            tried[worker] += 1
            cache.execute("INCR", f"n{worker}")
            succeeded[worker] += 1

        return call

    def awaiting(cache: Any) -> Callable[[int], Any]:
        async def call(number: int) -> None:
            worker = number % 30
            tried[worker] += 1
            await cache.aexecute("INCR", f"n{worker}")
            succeeded[worker] += 1

        return call

    with load(kind, cache, blocking, awaiting) as account:
        restarts(durable_server, account, 3)
    for worker in range(64):
        if tried[worker]:
            counted = int(cache.execute("GET", f"n{worker}"))
            assert succeeded[worker] <= counted <= tried[worker]


def test_tasks_and_threads_of_one_process_come_back_together(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, **LIMITS)
    outcomes: Counter[str] = Counter()

    async def task(number: int) -> None:
        while not account.stop.is_set():
            try:
                await cache.aset(f"a{number}", number)
                # None after the restart: the server keeps nothing.
                assert await cache.aget(f"a{number}") in (number, None)
                outcomes["success"] += 1
            except failures():
                outcomes["failure"] += 1
            await asyncio.sleep(0)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - the condition is a count that other threads change
                await asyncio.sleep(0.005)

    async def main() -> None:
        tasks = [asyncio.ensure_future(task(number)) for number in range(30)]
        await until(lambda: outcomes["success"] > 100 and account.successes > 100)
        await asyncio.to_thread(fresh_server.kill)
        await until(lambda: outcomes["failure"] > 0 and account.counts.total() > account.successes)
        await asyncio.to_thread(fresh_server.restart)
        reached = outcomes["success"], account.successes
        await until(lambda: outcomes["success"] > reached[0] + 100 and account.successes > reached[1] + 100)
        account.stop.set()
        await asyncio.gather(*tasks)

    with threads_under_load(4, lambda number: cache.set(f"t{number}", number)) as account:
        try:
            run(main())
        finally:
            account.stop.set()
    assert len(fresh_server.clients()) == 1


@pytest.mark.parametrize("address", ["url", "tcp_url"])
@pytest.mark.parametrize("name", ["INCR", "GET"])
def test_a_connection_closed_while_idle_costs_no_call(
    drive: Any, server: ValkeyServer, address: str, name: str
) -> None:
    """The server said goodbye before the call was made (its `timeout`, a proxy's, a restart)."""
    cache = drive(make_cache(getattr(server, address), CLIENT_NAME=f"idle-{name}"))
    cache.execute(name, "n")
    before = cache.execute("CLIENT", "ID")
    server.execute("CLIENT", "KILL", "ID", before)
    wait_until(lambda: str(before) not in {client["id"] for client in server.clients()})
    # A connection that was in use a moment ago is not looked at again before it is used.
    threading.Event().wait(0.05)
    assert cache.execute(name, "n") in (2, None)
    assert cache.execute("CLIENT", "ID") != before


def test_threads_that_wait_for_the_first_connection_share_it(fresh_server: ValkeyServer) -> None:
    fresh_server.pause()
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=20.0, CONNECT_TIMEOUT=20.0)
    seen: list[int] = []
    threads = [
        threading.Thread(target=lambda: seen.append(cache.execute("CLIENT", "ID")), daemon=True) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    fresh_server.resume()
    for thread in threads:
        thread.join(20)
    assert len(seen) == 16
    assert len(set(seen)) == 1
