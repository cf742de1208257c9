"""A server that is killed and started again under guests: every call is answered or fails with one of the documented
errors, and all of them come back by themselves, on one connection.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from support.driver import LOOPS, open_runner
from support.guests import default_on
from support.load import Account, loop_under_load, threads_under_load
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 2.0, "CONNECT_TIMEOUT": 2.0}


Count = Callable[[Account], int]


def successes(account: Account) -> int:
    return account.successes


def failures(account: Account) -> int:
    return account.counts.total() - account.successes


def wait_for_more(count: Count, *accounts: Account) -> None:
    """Until each of them has counted some more."""
    before = [count(account) for account in accounts]

    def reached() -> bool:
        return all(count(account) > base + 20 for account, base in zip(accounts, before, strict=True))

    wait_until(reached, timeout=30)


@pytest.mark.parametrize("loop", LOOPS)
def test_both_forms_recover_from_restarts_under_load(
    fresh_server: ValkeyServer, probe: ModuleType, quota: ModuleType, loop: str
) -> None:
    wrong: list[Any] = []

    def blocking(number: int) -> None:
        quota.left([number])
        if (got := probe.reply(["ECHO", str(number)])) != f"bulk-string('\"{number}\"')":
            wrong.append(got)

    async def awaiting(number: int) -> None:
        await quota.aspend(number)
        if (got := await probe.areply(["ECHO", str(number)])) != f"bulk-string('\"{number}\"')":
            wrong.append(got)

    with default_on(fresh_server, **LIMITS) as cache:
        with (
            threads_under_load(4, blocking) as threads,
            loop_under_load(open_runner(loop), 20, awaiting) as tasks,
        ):
            for _ in range(2):
                wait_for_more(successes, threads, tasks)
                fresh_server.kill()
                wait_for_more(failures, threads, tasks)
                fresh_server.restart()
                wait_for_more(successes, threads, tasks)
        assert wrong == []
        for account in (threads, tasks):
            assert set(account.counts) - {"success"} <= {"ConnectionError", "TimeoutError"}
        assert {probe.connection_id(), quota.connection_id()} == {cache.execute("CLIENT", "ID")}
        assert len(fresh_server.clients()) == 1


def test_a_call_in_flight_when_the_server_dies_fails_and_the_next_is_answered(
    run: Any, fresh_server: ValkeyServer, probe: ModuleType, quota: ModuleType
) -> None:
    from django_vcache.exceptions import ConnectionError

    async def main() -> None:
        await probe.aconnection_id()
        waiting = [asyncio.ensure_future(probe.apop("queue", 0)) for _ in range(3)]
        async with asyncio.timeout(10):
            while sum(client["cmd"] == "blpop" for client in fresh_server.clients()) < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        fresh_server.pause()
        waiting += [asyncio.ensure_future(probe.areply(["INCR", "n"])) for _ in range(10)]
        # Now they are on their way.
        await asyncio.sleep(0.01)
        await asyncio.to_thread(fresh_server.kill)
        async with asyncio.timeout(10):
            results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {ConnectionError}
        await asyncio.to_thread(fresh_server.restart)
        async with asyncio.timeout(10):
            while True:
                try:
                    assert await quota.aleft([1]) == [0]
                    break
                except ConnectionError:
                    await asyncio.sleep(0.01)
        assert await probe.afetch("n") is None

    with default_on(fresh_server, **LIMITS):
        run(main())


def test_a_call_without_a_deadline_ends_with_a_server_that_fell_silent(
    run: Any, fresh_server: ValkeyServer, probe: ModuleType
) -> None:
    from django_vcache.exceptions import ConnectionError

    async def main() -> None:
        # The second one finds a connection, and the loop has no other call to look after.
        assert await probe.apop_patiently("queue", 0.01) is None
        fresh_server.pause()
        async with asyncio.timeout(20):
            with pytest.raises(ConnectionError, match="did not answer"):
                await probe.apop_patiently("queue", 0.01)
        fresh_server.resume()

    with default_on(fresh_server, RESPONSE_TIMEOUT=0.3):
        run(main())


def test_a_connection_closed_while_idle_costs_a_guest_no_call(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, way: Any
) -> None:
    for turn in range(3):
        own = way(probe).connection_id()
        fresh_server.execute("CLIENT", "KILL", "ID", own)
        wait_until(lambda: fresh_server.clients() == [])
        # A connection that was in use a moment ago is not looked at again before it is used.
        threading.Event().wait(0.05)
        assert way(probe).reply(["INCR", "n"]) == f"int({turn + 1})"
        assert way(probe).connection_id() != own
