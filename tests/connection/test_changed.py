"""`wait_changed` and `await_changed` wait until a key is changed, created, deleted or expired after the wait has begun.
They return True then, and False when the time is over. They wait on the connection that all calls share.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS, open_runner
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until
from support.waits import FORMS, HANG, Waiting, until_tasks_watch, until_watched, watched

PATIENCE = 60.0


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


# What others do with a key that is there, and with one that is not.
CHANGES: dict[str, list[tuple[Any, ...]]] = {
    "set": [("SET", ":1:k", "other")],
    "incremented": [("INCR", ":1:k")],
    "deleted": [("DEL", ":1:k")],
    "unlinked": [("UNLINK", ":1:k")],
    "renamed": [("RENAME", ":1:k", "{:1:k}elsewhere")],
    "flushed": [("FLUSHDB",)],
    "everything flushed": [("FLUSHALL",)],
    "by a script": [("EVAL", "return redis.call('SET', KEYS[1], 'x')", 1, ":1:k")],
    "in a transaction": [("MULTI",), ("SET", ":1:k", "x"), ("EXEC",)],
}
CREATIONS: dict[str, list[tuple[Any, ...]]] = {
    "set": [("SET", ":1:k", "v")],
    "set, then deleted": [("SET", ":1:k", "v"), ("DEL", ":1:k")],
    "incremented": [("INCR", ":1:k")],
    "renamed": [("SET", "{:1:k}other", "v"), ("RENAME", "{:1:k}other", ":1:k")],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_by_another_client_ends_the_wait(server: ValkeyServer, form: str, change: str) -> None:
    server.execute("SET", ":1:k", "1")
    waiting = Waiting(form, make_cache(server), "k", PATIENCE)
    until_watched(server, waiting)
    for command in CHANGES[change]:
        server.execute(*command)
    assert waiting.result() is True


@pytest.mark.parametrize("creation", CREATIONS)
def test_a_key_that_is_created_is_a_change(server: ValkeyServer, form: str, creation: str) -> None:
    waiting = Waiting(form, make_cache(server), "k", PATIENCE)
    until_watched(server, waiting)
    for command in CREATIONS[creation]:
        server.execute(*command)
    assert waiting.result() is True


OWN_WRITES: dict[str, Callable[[Any], Any]] = {
    "set": lambda cache: cache.set("k", "other"),
    "incr": lambda cache: cache.incr("k"),
    "delete": lambda cache: cache.delete("k"),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("write", OWN_WRITES)
def test_a_write_of_this_process_ends_the_wait(server: ValkeyServer, form: str, write: str) -> None:
    """Over the very connection that watches."""
    cache = make_cache(server)
    cache.set("k", 1)
    waiting = Waiting(form, cache, "k", PATIENCE)
    until_watched(server, waiting)
    OWN_WRITES[write](cache)
    assert waiting.result() is True


def test_a_task_is_woken_by_another_one_of_its_loop(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def main() -> None:
        async with asyncio.timeout(HANG):
            for number in range(20):
                waiting = asyncio.ensure_future(cache.await_changed("k", PATIENCE))
                await until_tasks_watch(server, waiting)
                await cache.aset("k", number)
                assert await waiting is True

    run(main())


@pytest.mark.parametrize("active", [True, False], ids=["the server looks for it", "nobody looks for it"])
def test_expiry_ends_the_wait(expiring: ValkeyServer, active: bool) -> None:
    """A server removes what has expired when it comes to it, so that it may tell late or never."""
    expiring.execute("DEBUG", "SET-ACTIVE-EXPIRE", int(active))
    expiring.execute("FLUSHALL")
    cache = make_cache(expiring)
    for form in FORMS:
        cache.set(form, "v", timeout=2)
    begun = time.monotonic()
    waits = [Waiting(form, cache, form, PATIENCE) for form in FORMS]
    until_watched(expiring, *waits, count=len(FORMS))
    assert [wait.result() for wait in waits] == [True] * len(FORMS)
    assert time.monotonic() - begun < 10.0
    assert cache.get_many(FORMS) == {}


@pytest.fixture(scope="module")
def expiring() -> Iterator[ValkeyServer]:
    with ValkeyServer(enable_debug_command="yes") as server:
        yield server


def test_the_end_of_the_time_is_false(server: ValkeyServer, form: str) -> None:
    """It may be longer than a call may take, and a change that came before the wait is none."""
    cache = make_cache(server, RESPONSE_TIMEOUT=0.5)
    cache.set("k", "v")
    begun = time.monotonic()
    assert Waiting(form, cache, "k", 0.8).result() is False
    assert time.monotonic() - begun >= 0.79
    assert Waiting(form, cache, "nothing", timeout=0.05).result() is False
    assert Waiting(form, cache, "k", 0).result() is False
    assert cache.get("k") == "v"


def test_what_happens_to_other_keys_or_without_a_change_is_none(server: ValkeyServer, form: str) -> None:
    cache = make_cache(server, KEY_PREFIX="p", VERSION=2)
    cache.set("k", "v")
    waiting = Waiting(form, cache, "k", 0.5)
    until_watched(server, waiting)
    for key in ("k", "p:1:k", "p:3:k", ":2:k", "p:2:k2"):
        server.execute("SET", key, "x")
    for command in (("GET", "p:2:k"), ("EXISTS", "p:2:k"), ("SET", "p:2:k", "x", "NX"), ("DEL", "p:2:none")):
        server.execute(*command)
    assert waiting.result() is False


@pytest.mark.parametrize(
    ("options", "version", "stored"),
    [
        ({}, None, ":1:k"),
        ({"KEY_PREFIX": "p", "VERSION": 2}, None, "p:2:k"),
        ({"KEY_PREFIX": "p", "VERSION": 2}, 7, "p:7:k"),
        ({"KEY_FUNCTION": "support.guests.plain_key"}, None, "k"),
    ],
    ids=["default", "prefix and version", "another version", "a function"],
)
def test_the_key_is_the_caches_own(
    server: ValkeyServer, form: str, options: dict[str, Any], version: int | None, stored: str
) -> None:
    waiting = Waiting(form, make_cache(server, **options), "k", PATIENCE, version=version)
    until_watched(server, waiting)
    server.execute("SET", stored, "x")
    assert waiting.result() is True


def test_without_a_time_it_waits_for_as_long_as_it_takes(server: ValkeyServer, form: str) -> None:
    cache = make_cache(server, RESPONSE_TIMEOUT=0.5)
    waiting = Waiting(form, cache, "k")
    until_watched(server, waiting)
    threading.Event().wait(0.6)
    assert not waiting.is_over
    cache.set("k", 1)
    assert waiting.result() is True


def test_many_waits_in_loops_and_threads_are_woken_together(fresh_server: ValkeyServer) -> None:
    """They share the connection with all other calls. When each of them has begun is not known, so there may be some
    that the first change comes too early for; but then it is one of the next."""
    cache = make_cache(fresh_server)
    outcomes: list[Any] = []

    async def many() -> list[Any]:
        return await asyncio.gather(*(cache.await_changed("k", PATIENCE) for _ in range(50)))

    def wait(form: str) -> None:
        try:
            if form == "blocking":
                outcomes.append(cache.wait_changed("k", PATIENCE))
                return
            with open_runner(form) as runner:
                outcomes.extend(runner.run(many()))
        except Exception as error:
            outcomes.append(error)

    forms = [*LOOPS, *LOOPS, *["blocking"] * 10]
    threads = [threading.Thread(target=wait, args=(form,), daemon=True) for form in forms]
    for thread in threads:
        thread.start()
    wait_until(lambda: watched(fresh_server) or not all(thread.is_alive() for thread in threads), timeout=HANG)
    threading.Event().wait(0.3)
    assert len(fresh_server.clients()) == 1
    changes = 0
    while any(thread.is_alive() for thread in threads) and changes < 5:
        changes += 1
        fresh_server.execute("SET", ":1:k", changes)
        until = time.monotonic() + HANG / 5
        while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
            threading.Event().wait(0.01)
    assert outcomes == [True] * 210
    assert len(fresh_server.clients()) == 1


def test_different_keys_are_woken_each_by_its_own_change(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def main() -> None:
        waits = [asyncio.ensure_future(cache.await_changed(f"k{number}", PATIENCE)) for number in range(50)]
        await until_tasks_watch(server, *waits, count=50)
        for number in range(0, 50, 2):
            await cache.aset(f"k{number}", number)
        async with asyncio.timeout(HANG):
            assert await asyncio.gather(*waits[::2]) == [True] * 25
        assert not any(each.done() for each in waits[1::2])
        await cache.aclear()
        async with asyncio.timeout(HANG):
            # A flush is told as one for all keys.
            assert await asyncio.gather(*waits[1::2]) == [True] * 25

    run(main())


def test_large_replies_go_on_beside_a_wait(run: Any, fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=60.0, COMPRESS_MIN_LEN=None)
    blob = os.urandom(8 * 1024 * 1024)

    async def main() -> None:
        await cache.aset("large", blob)
        for number in range(3):
            waiting = asyncio.ensure_future(cache.await_changed("k", PATIENCE))
            await until_tasks_watch(fresh_server, waiting)
            reads = [asyncio.ensure_future(cache.aget("large")) for _ in range(4)]
            await asyncio.sleep(0)
            fresh_server.execute("SET", ":1:k", number)
            assert await asyncio.gather(*reads) == [blob] * 4
            async with asyncio.timeout(HANG):
                assert await waiting is True
        assert len(fresh_server.clients()) == 1

    run(main())


def test_cancelled_waits_leave_nothing_behind(run: Any, server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def abandon() -> list[weakref.ref[Any]]:
        waits = [asyncio.ensure_future(cache.await_changed("k", PATIENCE)) for _ in range(200)]
        await until_tasks_watch(server, *waits)
        for each in waits[::2]:
            each.cancel()
        gone = await asyncio.gather(*waits[::2], return_exceptions=True)
        assert {type(error) for error in gone} == {asyncio.CancelledError}
        # Those beside them wait on.
        assert not any(each.done() for each in waits[1::2])
        for each in waits[1::2]:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(each, 0)
        return [weakref.ref(each) for each in waits]

    async def main() -> None:
        async with asyncio.timeout(HANG):
            refs = await abandon()
            await asyncio.sleep(0)
            gc.collect()
            assert [ref for ref in refs if ref() is not None] == []
            assert await cache.aget("k") is None
            await cache.aset("k", 1)
            again = asyncio.ensure_future(cache.await_changed("k", PATIENCE))
            await until_tasks_watch(server, again)
            await cache.aset("k", 2)
            assert await again is True

    run(main())


MANY = """
async def cancel(count):
    waits = [asyncio.ensure_future(cache.await_changed(f"k{number % 100}", 60)) for number in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    for each in waits:
        each.cancel()
    assert {type(error) for error in await asyncio.gather(*waits, return_exceptions=True)} == {asyncio.CancelledError}
    assert await cache.aget("warm") == 1

async def main():
    await cache.aset("warm", 1)
    sizes, objects = [], []
    for turn in range(16):
        await cancel(1000)
        gc.collect()
        sizes.append(rss())
        objects.append(len(gc.get_objects()))
    report([sizes, objects, fds()])

run(main())
"""


def test_a_thousand_cancelled_waits_a_round_leave_no_memory_behind(server: ValkeyServer) -> None:
    sizes, objects, _ = run_program(MANY, {"default": cache_setting(server)})
    assert min(sizes[12:]) - max(sizes[:8]) < 4 * 1024 * 1024, sizes
    assert objects[-1] - objects[2] < 500, objects


INTERRUPTED = """
report("waits")
try:
    cache.wait_changed("k")
except KeyboardInterrupt:
    report("interrupted")
cache.set("k", 1)
report(cache.get("k"))
"""


def test_ctrl_c_ends_a_wait(fresh_server: ValkeyServer) -> None:
    with Program(INTERRUPTED, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == "waits"
        until_watched(fresh_server)
        os.kill(program.pid, signal.SIGINT)
        assert program.report(HANG) == "interrupted"
        assert program.report(HANG) == 1
        program.end()
