"""A guest that panics, or that keeps its thread for itself, harms nobody but its own call: the loop, the connection and
the guest live on.
"""

from __future__ import annotations

import asyncio
import threading
from types import ModuleType
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer

WHEN = pytest.mark.parametrize("after", [False, True], ids=["before the first await", "after it"])


@WHEN
def test_a_panic_is_an_exception(cache: Any, probe: ModuleType, quota: ModuleType, way: Any, after: bool) -> None:
    from django_vcache.exceptions import HotPathPanic

    own = cache.execute("CLIENT", "ID")
    for _ in range(5):
        with pytest.raises(HotPathPanic, match="as it was told to") as caught:
            way(probe).panics(after)
        assert isinstance(caught.value, RuntimeError)
    assert way(probe).connection_id() == way(quota).connection_id() == cache.execute("CLIENT", "ID") == own


@WHEN
def test_a_panic_on_the_loop_disturbs_no_other_call(
    run: Any, server: ValkeyServer, cache: Any, probe: ModuleType, quota: ModuleType, after: bool
) -> None:
    from django_vcache.exceptions import HotPathPanic

    for number in range(50):
        server.execute("SET", f"k{number}", f"value {number}")

    async def main() -> None:
        for _ in range(20):
            calls = []
            for number in range(50):
                calls += [probe.afetch(f"k{number}"), probe.apanics(after), cache.aexecute("GET", f"k{number}")]
            results = await asyncio.gather(*calls, quota.aleft([1]), return_exceptions=True)
            values = [f"value {number}".encode() for number in range(50)]
            assert results[0:-1:3] == results[2:-1:3] == values
            assert {type(error) for error in results[1:-1:3]} == {HotPathPanic}
            assert results[-1] == [0]

    run(main())


@WHEN
def test_a_panic_in_one_thread_disturbs_no_other(cache: Any, probe: ModuleType, after: bool) -> None:
    from django_vcache.exceptions import HotPathPanic

    barrier = threading.Barrier(8)
    failures: list[BaseException] = []

    def body(number: int) -> None:
        try:
            barrier.wait()
            for turn in range(50):
                if number % 2:
                    with pytest.raises(HotPathPanic):
                        probe.panics(after)
                else:
                    assert probe.reply(["INCR", f"n{number}"]) == f"int({turn + 1})"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def test_what_panics_when_it_is_dropped_or_shown_is_an_exception(cache: Any, probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import HotPathPanic

    own = cache.execute("CLIENT", "ID")
    for call in (
        lambda: way(probe).holds_a_bomb("nothing", 0.01),
        lambda: way(probe).panics_with_a_bomb(),
        lambda: way(probe).answers_with_a_bomb(),
    ):
        for _ in range(3):
            with pytest.raises(HotPathPanic):
                call()
    assert way(probe).connection_id() == cache.execute("CLIENT", "ID") == own


def test_what_panics_while_it_is_cancelled_is_cancelled(run: Any, cache: Any, probe: ModuleType) -> None:
    async def main() -> None:
        waiting = [asyncio.ensure_future(probe.aholds_a_bomb("nothing", 0)) for _ in range(5)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {
            asyncio.CancelledError
        }
        assert await probe.aconnection_id() == await cache.aexecute("CLIENT", "ID")

    run(main())


def test_a_waker_that_panics_takes_no_other_callers_reply(cache: Any, probe: ModuleType, way: Any) -> None:
    cache.execute("SET", "k", "v")
    for _ in range(3):
        assert way(probe).wakes_a_bomb("k") == (b"v", b"v")
    assert cache.execute("GET", "k") == b"v"


PANICS = """
import probe_guest

async def panic():
    calls = (probe_guest.apanics(number % 2 == 0) for number in range(200))
    return await asyncio.gather(*calls, return_exceptions=True)

def many():
    for _ in range(50):
        try:
            probe_guest.panics(True)
        except exceptions.HotPathPanic:
            pass

objects, descriptors = [], []
for _ in range(6):
    assert all(isinstance(error, exceptions.HotPathPanic) for error in run(panic()))
    many()
    gc.collect()
    objects.append(len(gc.get_objects()))
    descriptors.append(fds())
report([objects, descriptors])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_panics_leave_nothing_behind(server: ValkeyServer, loop: str) -> None:
    objects, descriptors = run_program(PANICS, {"default": cache_setting(server)}, loop)
    assert objects[-1] - objects[1] < 100, objects
    assert descriptors[-1] <= descriptors[1], descriptors


def test_a_hot_path_that_blocks_its_thread_delays_the_others_and_loses_none(
    run: Any, server: ValkeyServer, cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    for number in range(100):
        server.execute("SET", f"k{number}", f"value {number}")

    async def main() -> None:
        before = [asyncio.ensure_future(probe.afetch(f"k{number}")) for number in range(100)]
        await asyncio.sleep(0)
        blocked = asyncio.ensure_future(probe.ablocks(1000))
        after = [asyncio.ensure_future(cache.aexecute("GET", f"k{number}")) for number in range(100)]
        values = [f"value {number}".encode() for number in range(100)]
        assert await asyncio.gather(*before) == values
        assert await asyncio.gather(*after) == values
        assert await blocked is None
        assert await quota.aleft([1]) == [0]

    run(main())


def test_a_hot_path_that_blocks_in_one_thread_lets_the_others_go_on(
    cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    results: list[Any] = []
    blocked = threading.Thread(target=lambda: results.append(("blocked", probe.blocks(1000))))
    blocked.start()
    others = [
        threading.Thread(target=lambda number=number: results.append([quota.left([number]), probe.fetch("nothing")]))
        for number in range(8)
    ]
    for thread in others:
        thread.start()
    for thread in [*others, blocked]:
        thread.join(30)
    # They did not wait for it.
    assert results == [[[0], None]] * 8 + [("blocked", None)]
