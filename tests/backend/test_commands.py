"""What the cache asks of the server: a batch is one command or one pipeline, and a call sends
nothing that it does not need. Counted by the server itself, with INFO commandstats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from support.server import ValkeyServer

COUNT = 200
KEYS = [f"k{number}" for number in range(COUNT)]


def commands(server: ValkeyServer, call: Callable[[], object]) -> dict[str, int]:
    """The commands that the server ran during `call`, by name."""
    server.execute("CONFIG", "RESETSTAT")
    call()
    return server.command_counts()


def reads(server: ValkeyServer, call: Callable[[], object]) -> int:
    """How often the server read from a client during `call`."""
    before = int(server.info("stats")["total_reads_processed"])
    call()
    return int(server.info("stats")["total_reads_processed"]) - before - 1


@pytest.fixture
def warm(cache: Any) -> Any:
    """A cache whose connection is made, so that connecting is not counted."""
    cache.get("warm")
    return cache


def test_get_many_is_one_mget(warm: Any, server: ValkeyServer) -> None:
    parts = server.parts(map(warm.make_key, KEYS))
    assert commands(server, lambda: warm.get_many(KEYS)) == {"mget": parts}


@pytest.mark.parametrize("timeout", [60, 0.5, None])
def test_set_many_is_one_pipeline_of_set(warm: Any, server: ValkeyServer, timeout: float | None) -> None:
    data = dict.fromkeys(KEYS, "v")
    assert commands(server, lambda: warm.set_many(data, timeout)) == {"set": COUNT}
    assert reads(server, lambda: warm.set_many(data, timeout)) < 10


def test_delete_many_is_one_unlink(warm: Any, server: ValkeyServer) -> None:
    parts = server.parts(map(warm.make_key, KEYS))
    warm.set_many(dict.fromkeys(KEYS, "v"))
    assert commands(server, lambda: warm.delete_many(KEYS)) == {"unlink": parts}
    assert server.keys() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda cache: cache.get_many([]),
        lambda cache: cache.set_many({}),
        lambda cache: cache.delete_many([]),
        lambda cache: cache.close(),
    ],
    ids=["get_many", "set_many", "delete_many", "close"],
)
def test_nothing_to_do_sends_nothing(warm: Any, server: ValkeyServer, call: Any) -> None:
    assert commands(server, lambda: call(warm)) == {}


@pytest.mark.parametrize(
    ("call", "command"),
    [
        (lambda cache: cache.get("k"), "get"),
        (lambda cache: cache.set("k", "v"), "set"),
        (lambda cache: cache.set("k", "v", None), "set"),
        (lambda cache: cache.add("k", "v"), "set"),
        (lambda cache: cache.has_key("k"), "exists"),
        (lambda cache: "k" in cache, "exists"),
        (lambda cache: cache.get_or_set("hit", "v"), "get"),
    ],
)
def test_a_simple_call_is_one_command(
    warm: Any, server: ValkeyServer, call: Callable[[Any], Any], command: str
) -> None:
    warm.set("hit", "v")
    assert commands(server, lambda: call(warm)) == {command: 1}


def test_a_large_batch_comes_back_whole(cache: Any) -> None:
    data = {f"k{number}": "x" * (number % 100) for number in range(20_000)}
    assert cache.set_many(data) == []
    assert cache.get_many(data) == data
    cache.delete_many(data)
    assert cache.get_many(data) == {}


def test_a_large_value_comes_back_whole(cache: Any) -> None:
    value = bytes(range(256)) * 4096 * 8  # 8 MiB: more than any socket buffer
    cache.set("k", value)
    assert cache.get("k") == value
