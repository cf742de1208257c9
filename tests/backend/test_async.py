"""The async half is native: every `a*` method of Django's contract is defined by our class, runs
on the loop's own thread with no helper, and shares keys and connection with the sync half.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
import threading
from typing import Any

import pytest
from django.core.cache.backends.base import BaseCache
from support.caches import make_cache
from support.driver import TWINS
from support.server import ValkeyServer

HOPS = ("sync_to_async", "to_thread", "run_in_executor")


def threads() -> set[int]:
    """The threads of this process, also those that Python does not know of (on Linux)."""
    if sys.platform == "linux":
        return {int(name) for name in os.listdir("/proc/self/task")}
    return {thread.ident or 0 for thread in threading.enumerate()}


@pytest.mark.parametrize("name", [f"a{twin}" for twin in TWINS])
def test_the_async_method_is_our_own(name: str) -> None:
    from django_vcache import ValkeyCache

    below = ValkeyCache.__mro__[: ValkeyCache.__mro__.index(BaseCache)]
    owner = next((cls for cls in below if name in vars(cls)), None)
    assert owner is not None, f"{name} is inherited from BaseCache"
    method = inspect.unwrap(vars(owner)[name])
    if inspect.isfunction(method):  # otherwise it is native code
        source = inspect.getsource(method)
        assert not [hop for hop in HOPS if hop in source]


@pytest.mark.parametrize("twin", TWINS)
def test_the_signatures_are_those_of_django(twin: str) -> None:
    from django_vcache import ValkeyCache

    for name in (twin, f"a{twin}"):
        ours = inspect.signature(getattr(ValkeyCache, name)).parameters
        django = inspect.signature(getattr(BaseCache, name)).parameters
        assert list(ours)[: len(django)] == list(django), name
        defaults = {key: parameter.default for key, parameter in django.items()}
        assert {key: ours[key].default for key in django} == defaults, name


async def every_method(cache: Any) -> None:
    async def default() -> str:
        return "default"

    await cache.aset("a", 1)
    await cache.aget("a")
    await cache.aadd("b", 2)
    await cache.atouch("b", 10)
    await cache.aset_many({"c": (3,), "d": None})
    await cache.aget_many(["a", "b", "c"])
    await cache.ahas_key("c")
    await cache.aincr("a")
    await cache.adecr("a")
    await cache.aincr_version("a")
    await cache.adecr_version("a", version=2)
    await cache.aget_or_set("e", default)
    await cache.adelete("a")
    await cache.adelete_many(["b", "c"])
    await cache.aexecute("PING")
    await cache.aclear()
    await cache.aclose()


def test_no_method_starts_a_thread(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)
    seen: set[int] = set()

    async def watch() -> None:
        while True:
            seen.update(threads())
            await asyncio.sleep(0)

    async def main() -> set[int]:
        await every_method(cache)  # the warm-up: connecting happens off the loop's thread
        before = threads()
        watcher = asyncio.create_task(watch())
        for _ in range(5):
            await asyncio.gather(*(every_method_of_its_own(cache, part) for part in range(10)))
            await every_method(cache)
        watcher.cancel()
        return before

    before = run(main())
    assert threading.get_native_id() in before or sys.platform != "linux"
    assert seen - before == set()


async def every_method_of_its_own(cache: Any, part: int) -> None:
    await cache.aset(f"n{part}", part)
    assert await cache.aget(f"n{part}") == part
    assert await cache.aincr(f"n{part}") == part + 1
    assert await cache.adelete(f"n{part}") is True


def test_a_coroutine_function_is_awaited_only_on_a_miss(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)
    calls: list[int] = []

    async def default() -> dict[str, int]:
        await asyncio.sleep(0)
        calls.append(1)
        return {"n": len(calls)}

    async def main() -> None:
        assert await cache.aget_or_set("k", default) == {"n": 1}
        assert await cache.aget_or_set("k", default) == {"n": 1}
        assert await cache.aget("k") == {"n": 1}

    run(main())
    assert calls == [1]


def test_an_error_of_a_coroutine_function_passes(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def default() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        run(cache_get_or_set(cache, default))
    assert cache.has_key("k") is False


async def cache_get_or_set(cache: Any, default: Any) -> Any:
    return await cache.aget_or_set("k", default)


def test_both_halves_share_keys_and_connection(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def main() -> None:
        await cache.aset("k", ("v",))
        assert cache.get("k") == ("v",)  # sync on the loop's own thread: it blocks, it works
        cache.set("k", "sync")
        assert await cache.aget("k") == "sync"
        assert await cache.aexecute("CLIENT", "ID") == cache.execute("CLIENT", "ID")

    cache.get("k")
    run(main())


def test_results_come_back_to_their_own_callers(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def main() -> list[int]:
        await cache.aset_many({f"k{number}": number for number in range(500)})
        return await asyncio.gather(*(cache.aget(f"k{number}") for number in range(500)))

    assert run(main()) == list(range(500))


def test_a_cancelled_call_disturbs_no_other(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def read(number: int) -> int:
        return await cache.aget(f"k{number}")

    async def main() -> None:
        await cache.aset_many({f"k{number}": number for number in range(100)})
        for turns in range(3):
            tasks = [asyncio.create_task(read(number)) for number in range(100)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert results[1::2] == list(range(1, 100, 2))
            for number, result in enumerate(results[::2]):
                assert result == number * 2 or isinstance(result, asyncio.CancelledError)
        assert await read(7) == 7

    run(main())


def test_a_cache_outlives_its_event_loops(server: ValkeyServer) -> None:
    cache = make_cache(server)

    async def count() -> int:
        await cache.aadd("k", 0)
        return await cache.aincr("k")

    assert [asyncio.run(count()) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert cache.get("k") == 5
