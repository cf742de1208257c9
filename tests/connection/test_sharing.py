"""One connection per process and settings: tasks, threads and hot paths together use a single one,
aliases with equal settings share it, and what CLIENT LIST shows of it is what was configured.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS
from support.programs import Program, run_program
from support.server import ValkeyServer

CROWD = """
ids = set()

def thread(number):
    for turn in range(50):
        cache.set(f"t{number}", turn)
        assert cache.get(f"t{number}") == turn
        hotpaths.allow("budget", limit=100_000, period=60)
        hotpaths.enqueue("stream", b"payload")
    ids.add(caches["default"].execute("CLIENT", "ID"))

async def task(number):
    for turn in range(10):
        await cache.aset(f"a{number}", turn)
        assert await cache.aget(f"a{number}") == turn
        await hotpaths.aallow("budget", limit=100_000, period=60)
        await hotpaths.aenqueue("stream", "payload")
    ids.add(await caches["default"].aexecute("CLIENT", "ID"))

async def crowd():
    threads = [threading.Thread(target=thread, args=(number,)) for number in range(8)]
    for each in threads:
        each.start()
    await asyncio.gather(*(task(number) for number in range(300)))
    await asyncio.to_thread(lambda: [each.join() for each in threads])

run(crowd())
report([sorted(ids), cache.execute("XLEN", "stream")])
wait_for_word()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_tasks_threads_and_hot_paths_share_one_connection(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(CROWD, {"default": cache_setting(fresh_server)}, loop) as program:
        ids, written = program.report()
        clients = fresh_server.clients()
        assert len(clients) == 1
        assert [str(each) for each in ids] == [clients[0]["id"]]
        assert written == 8 * 50 + 300 * 10
        # One connection was enough from the first call to the last.
        assert int(fresh_server.info("stats")["total_connections_received"]) == 2
        program.tell()
        program.end()


FIRST_CALLS = """
barrier = threading.Barrier(8)
ids = set()

def thread(number):
    barrier.wait()
    ids.add(cache.execute("CLIENT", "ID"))
    ids.add(run(ask()))

async def ask():
    return await cache.aexecute("CLIENT", "ID")

in_threads(8, thread)
report(sorted(ids))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_simultaneous_first_calls_connect_once(fresh_server: ValkeyServer, loop: str) -> None:
    assert len(run_program(FIRST_CALLS, {"default": cache_setting(fresh_server)}, loop)) == 1
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


def test_aliases_with_equal_settings_share_a_connection(drive: Any, fresh_server: ValkeyServer) -> None:
    same = [
        make_cache(fresh_server),
        make_cache(fresh_server, KEY_PREFIX="other", TIMEOUT=7),
        make_cache(fresh_server, SERIALIZER="json", IGNORE_EXCEPTIONS=True),
    ]
    assert len({drive(cache).execute("CLIENT", "ID") for cache in same}) == 1
    assert len(fresh_server.clients()) == 1


def test_each_difference_in_connection_settings_is_a_connection_of_its_own(drive: Any) -> None:
    with ValkeyServer(users=["alice on >pw ~* &* +@all"]) as server:
        caches = [
            make_cache(server.unix_url),
            make_cache(server, DB=1),
            make_cache(server, RESPONSE_TIMEOUT=4.0),
            make_cache(server, CONNECT_TIMEOUT=1.0),
            make_cache(server, USERNAME="alice", PASSWORD="pw"),
            make_cache(server, CLIENT_NAME="other"),
            make_cache(server.tcp_url),
        ]
        ids = [drive(cache).execute("CLIENT", "ID") for cache in caches]
        assert len(set(ids)) == len(caches)
        assert len(server.clients()) == len(caches)
        assert [drive(cache).execute("CLIENT", "ID") for cache in caches] == ids


def test_the_server_sees_who_it_is(drive: Any) -> None:
    with ValkeyServer(users=["alice on >pw ~* &* +@all"]) as server:
        cache = drive(make_cache(server, USERNAME="alice", PASSWORD="pw", DB=3, CLIENT_NAME="web-1"))
        cache.set("k", 1)
        (client,) = server.clients()
        # Redis before 7.2 has no such fields.
        assert client.get("lib-name", "vcache") == "vcache"
        assert client.get("lib-ver", "unknown")
        assert client["name"] == "web-1"
        assert client["resp"] == "3"
        assert client["db"] == "3"
        assert client["user"] == "alice"
        assert cache.execute("CLIENT", "GETNAME") == b"web-1"


# In a cluster any node may be asked for CLIENT ID.
@pytest.mark.one_server
def test_all_ways_to_call_have_the_same_client_id(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)
    seen = [cache.execute("CLIENT", "ID")]
    thread = threading.Thread(target=lambda: seen.append(cache.execute("CLIENT", "ID")))
    thread.start()
    thread.join()

    async def ask() -> None:
        seen.append(await cache.aexecute("CLIENT", "ID"))
        seen.append(await asyncio.to_thread(cache.execute, "CLIENT", "ID"))
        seen.append(cache.execute("CLIENT", "ID"))

    run(ask())
    assert len(seen) == 5
    assert len(set(seen)) == 1
