"""The wheel and all guests of a process use one connection, whoever asks first and however; and each gets the
replies to its own calls.
"""

from __future__ import annotations

import asyncio
import threading
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.guests import default_on
from support.load import loop_under_load, threads_under_load
from support.programs import run_program
from support.server import ValkeyServer, wait_until


def test_all_modules_have_one_client_id(
    run: Any, fresh_server: ValkeyServer, fresh_cache: Any, quota: ModuleType, probe: ModuleType
) -> None:
    seen = [fresh_cache.execute("CLIENT", "ID"), quota.connection_id(), probe.connection_id()]

    async def ask() -> None:
        seen.append(await fresh_cache.aexecute("CLIENT", "ID"))
        seen.append(await quota.aconnection_id())
        seen.append(await probe.aconnection_id())
        seen.append(await asyncio.to_thread(quota.connection_id))
        seen.append(probe.connection_id())

    run(ask())
    assert len(seen) == 8
    assert [client["id"] for client in fresh_server.clients()] == [str(seen[0])]
    assert len(set(seen)) == 1
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


def test_the_wheels_own_hot_paths_have_it_too(run: Any, cache: Any, quota: ModuleType, probe: ModuleType) -> None:
    from django_vcache import hotpaths

    async def ask() -> int:
        return await hotpaths.aconnection_id()

    ids = {hotpaths.connection_id(), run(ask()), cache.execute("CLIENT", "ID")}
    assert ids == {quota.connection_id()} == {probe.connection_id()}


FIRST = """
import probe_guest, quota_guest

async def ask(number):
    asks = [probe_guest.aconnection_id, quota_guest.aconnection_id, lambda: cache.aexecute("CLIENT", "ID")]
    return set(await asyncio.gather(*(asks[(number + turn) % 3]() for turn in range(3))))

def thread(number):
    asks = [probe_guest.connection_id, quota_guest.connection_id, lambda: cache.execute("CLIENT", "ID")]
    barrier.wait()
    ids.add(asks[number % 3]())
    ids.update(run(ask(number)))

barrier = threading.Barrier(9)
ids = set()
in_threads(9, thread)
report(sorted(ids))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_simultaneous_first_calls_connect_once(fresh_server: ValkeyServer, loop: str) -> None:
    assert len(run_program(FIRST, {"default": cache_setting(fresh_server)}, loop)) == 1
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


@pytest.mark.parametrize("first", ["probe_guest", "quota_guest"])
def test_a_guest_that_comes_before_everything_else_configures_the_alias(fresh_server: ValkeyServer, first: str) -> None:
    source = f"""
        import {first}
        own = {first}.connection_id()
        from django.core.cache import cache
        report([own, cache.execute("CLIENT", "ID")])
    """
    own, wheels = run_program(source, {"default": cache_setting(fresh_server)})
    assert own == wheels


@pytest.mark.parametrize("loop", LOOPS)
def test_everybody_gets_their_own_replies_under_load(
    fresh_server: ValkeyServer, fresh_cache: Any, quota: ModuleType, probe: ModuleType, loop: str
) -> None:
    wrong: list[Any] = []

    def check(got: Any, wanted: Any) -> None:
        if got != wanted:
            wrong.append((got, wanted))

    def blocking(number: int) -> None:
        fresh_cache.execute("SET", f"t{number}", f"value {number}")
        check(probe.fetch(f"t{number}"), f"value {number}".encode())
        quota.grant(number, number + 2)
        check(quota.spend(number, 2), number)
        check(probe.reply(["ECHO", f"echo {number}"]), f"bulk-string('\"echo {number}\"')")
        check(quota.left([number, number]), [number, number])

    async def awaiting(number: int) -> None:
        project = 1_000_000_000 + number
        await fresh_cache.aexecute("SET", f"a{number}", f"value {number}")
        await quota.agrant(project, number + 2)
        check(
            await asyncio.gather(
                probe.afetch(f"a{number}"),
                quota.aspend(project, 2),
                fresh_cache.aexecute("GET", f"a{number}"),
                probe.areply(["ECHO", f"echo {number}"]),
            ),
            [
                f"value {number}".encode(),
                number,
                f"value {number}".encode(),
                f"bulk-string('\"echo {number}\"')",
            ],
        )

    with (
        threads_under_load(6, blocking) as threads,
        loop_under_load(open_runner(loop), 30, awaiting) as tasks,
    ):
        wait_until(lambda: threads.successes > 300 and tasks.successes > 600, timeout=60)
    assert wrong == []
    assert set(threads.counts) == set(tasks.counts) == {"success"}
    assert len(fresh_server.clients()) == 1
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


def test_another_alias_is_another_connection(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, way: Any
) -> None:
    from django_vcache.backend import publish_alias

    hot = way(probe)
    caches = {
        "default": cache_setting(fresh_server),
        "same": cache_setting(fresh_server, KEY_PREFIX="other"),
        "other": cache_setting(fresh_server, DB=1),
    }
    with override_settings(CACHES=caches):
        publish_alias("same"), publish_alias("other")
        own = hot.connection_id()
        assert hot.elsewhere("same") == own
        assert hot.elsewhere("other") != own
        assert hot.elsewhere("other") == hot.elsewhere("other")
    assert len(fresh_server.clients()) == 2


def test_a_guest_follows_the_alias_when_it_is_published_anew(server: ValkeyServer, probe: ModuleType, way: Any) -> None:
    hot = way(probe)
    with default_on(server):
        own = hot.connection_id()
    with default_on(server, DB=1):
        assert hot.connection_id() != own
    with default_on(server):
        # The connection of before may have been closed in the meantime.
        server.execute("SET", "k", "v")
        assert hot.fetch("k") == b"v"


def test_a_guest_imported_while_others_are_at_work_joins_them(fresh_server: ValkeyServer) -> None:
    source = """
        async def ask():
            pending = [asyncio.ensure_future(cache.aexecute("ECHO", str(number))) for number in range(100)]
            await asyncio.sleep(0)
            import probe_guest
            first = await probe_guest.aconnection_id()
            import quota_guest
            assert await asyncio.gather(*pending) == [str(number).encode() for number in range(100)]
            return [first, await quota_guest.aconnection_id(), await cache.aexecute("CLIENT", "ID")]

        report(run(ask()))
    """
    assert len(set(run_program(source, {"default": cache_setting(fresh_server)}))) == 1


def test_threads_of_each_module_complete_each_other(cache: Any, quota: ModuleType, probe: ModuleType) -> None:
    """Whoever has the reader's role reads the others' replies too."""
    barrier = threading.Barrier(12)
    wrong: list[Any] = []

    def body(number: int) -> None:
        quota.grant(number, 1000)
        barrier.wait()
        for turn in range(100):
            got = [
                lambda: quota.spend(number),
                lambda: probe.reply(["INCR", f"n{number}"]),
                lambda: cache.execute("INCR", f"n{number}"),
            ][number % 3]()
            wanted = [999 - turn, f"int({turn + 1})", turn + 1][number % 3]
            if got != wanted:
                wrong.append((number, got, wanted))

    threads = [threading.Thread(target=body, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
