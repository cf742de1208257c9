"""incr, decr and the versions: one atomic step on the server that keeps the timeout, with
Django's errors for what cannot be counted.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.caches import make_cache
from support.server import ValkeyServer


@pytest.mark.parametrize("value", [0, 41, -5, 2**40])
@pytest.mark.parametrize("delta", [1, 10, -10, 0])
def test_incr_and_decr_count(cache: Any, value: int, delta: int) -> None:
    cache.set("k", value)
    assert cache.incr("k", delta) == value + delta
    assert cache.get("k") == value + delta
    assert cache.decr("k", delta) == value
    assert cache.get("k") == value


def test_the_delta_is_one_by_default(cache: Any) -> None:
    cache.set("k", 1)
    assert cache.incr("k") == 2
    assert cache.decr("k") == 1


@pytest.mark.parametrize("name", ["incr", "decr"])
def test_a_missing_key_is_a_value_error_and_stays_missing(cache: Any, server: ValkeyServer, name: str) -> None:
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k")
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k", -1)
    assert server.keys() == []


@pytest.mark.parametrize("name", ["incr", "decr"])
@pytest.mark.parametrize("value", [None, "text", "1", b"1", [1], 1.5], ids=repr)
def test_what_is_no_int_is_a_type_error_and_stays(cache: Any, name: str, value: object) -> None:
    cache.set("k", value)
    with pytest.raises(TypeError):
        getattr(cache, name)("k")
    assert cache.get("k") == value


@pytest.mark.parametrize("timeout", [100, None])
def test_the_timeout_is_kept(cache: Any, server: ValkeyServer, timeout: int | None) -> None:
    cache.set("k", 1, timeout)
    cache.incr("k")
    cache.decr("k", 5)
    left = server.execute("PTTL", ":1:k")
    assert left == -1 if timeout is None else 90_000 < left <= 100_000


def test_counting_honours_the_version(cache: Any) -> None:
    cache.set("k", 1)
    cache.set("k", 10, version=2)
    assert cache.incr("k", version=2) == 11
    assert cache.decr("k", 2, version=2) == 9
    assert cache.get("k") == 1


def test_threads_lose_no_increments(server: ValkeyServer) -> None:
    cache = make_cache(server)
    cache.set("k", 0)

    def count(_: int) -> None:
        for _ in range(50):
            cache.incr("k")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert cache.get("k") == 400


def test_tasks_lose_no_increments(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def main() -> list[int]:
        await cache.aset("k", 0)

        async def count() -> int:
            return await cache.aincr("k")

        return await asyncio.gather(*(count() for _ in range(200)))

    assert sorted(run(main())) == list(range(1, 201))


@pytest.mark.parametrize("value", [1, "text", None, ("a", 1)], ids=repr)
def test_incr_version_moves_the_value(cache: Any, server: ValkeyServer, value: object) -> None:
    cache.set("k", value)
    assert cache.incr_version("k") == 2
    assert server.keys() == [b":2:k"]
    assert cache.get("k", "missing", version=2) == value
    assert cache.incr_version("k", 3, version=2) == 5
    assert cache.decr_version("k", version=5) == 4
    assert cache.decr_version("k", delta=3, version=4) == 1
    assert cache.get("k", "missing") == value
    assert server.keys() == [b":1:k"]


def test_incr_version_replaces_what_the_other_version_held(cache: Any) -> None:
    cache.set("k", "new")
    cache.set("k", "old", version=2)
    assert cache.incr_version("k") == 2
    assert cache.get("k", version=2) == "new"


@pytest.mark.parametrize("name", ["incr_version", "decr_version"])
def test_the_version_of_a_missing_key_is_a_value_error(cache: Any, server: ValkeyServer, name: str) -> None:
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k")
    assert server.keys() == []


def test_incr_version_by_nothing_keeps_the_key(cache: Any) -> None:
    cache.set("k", "v")
    assert cache.incr_version("k", 0) == 1
    assert cache.get("k") == "v"
