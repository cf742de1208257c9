"""Round trips are counted where they are made, for caches, limits, streams and hot paths, in both of their forms."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

from django_vcache import aliases, cache, hotpaths
from django_vcache.admission import Gate, Quota, Stream, Throttle
from django_vcache.test import RoundTrip, assert_round_trips, record_round_trips


@pytest.fixture(autouse=True)
def two_aliases(server: ValkeyServer) -> Iterator[None]:
    with override_settings(CACHES={"default": cache_setting(server), "other": cache_setting(server, DB=1)}):
        yield


GATE = Gate(
    [Throttle("org", "100/d")], [Quota("q", 100, "day", key="org")], Stream("round-trips"), owner="org", deadline=None
)
CALLS: dict[str, tuple[int, Callable[[], Any]]] = {
    "nothing": (0, lambda: None),
    "get": (1, lambda: cache.get("k")),
    "get_many": (1, lambda: cache.get_many(["a", "b", "c"])),
    "no keys": (0, lambda: cache.get_many([])),
    "set_many": (1, lambda: cache.set_many({"a": 1, "b": 2})),
    "get_or_set": (3, lambda: cache.get_or_set("new", 1)),
    "another alias": (1, lambda: aliases["other"].get("k")),
    "execute": (1, lambda: cache.execute("PING")),
    "a gate": (1, lambda: GATE.admit({"org": 1}, payload=b"x")),
    "a hot path": (1, lambda: hotpaths.allow("k", 1, 60)),
    "an awaited call": (1, lambda: asyncio.run(cache.aget("k"))),
    "an awaited gate": (1, lambda: asyncio.run(_admit())),
    "five at once": (5, lambda: asyncio.run(_five())),
    "a thread": (1, lambda: _in_a_thread(lambda: cache.get("k"))),
    "a blocking command": (1, lambda: cache.execute("BLPOP", "empty", 0.01)),
}


async def _admit() -> None:
    await GATE.aadmit({"org": 1}, payload=b"x")


async def _five() -> None:
    await asyncio.gather(*(cache.aget(f"k{number}") for number in range(5)))


def _in_a_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("name", CALLS)
def test_what_is_counted(name: str) -> None:
    count, call = CALLS[name]
    with assert_round_trips(count):
        call()


def test_a_script_that_the_server_does_not_know_counts_once(server: ValkeyServer) -> None:
    for _ in range(2):
        server.execute("SCRIPT", "FLUSH")
        with assert_round_trips(2) as trips:
            GATE.admit({"org": 1}, payload=b"x")
            hotpaths.allow("k", 1, 60)
    assert [trip.commands for trip in trips] == [("EVAL",), ("EVALSHA",)]


def test_what_is_recorded_names_commands_and_keys_and_no_values() -> None:
    with record_round_trips() as trips:
        cache.set_many({"a": "s3cr3t", "b": 2})
        aliases["other"].get("k")
    assert trips == [
        RoundTrip("default", ("SET", "SET"), (b":1:a", b":1:b")),
        RoundTrip("other", ("GET",), (b":1:k",)),
    ]
    assert "s3cr3t" not in str(trips)
    assert str(trips[0]) == "default: SET SET on :1:a, :1:b"


def test_a_failure_lists_them() -> None:
    def calls() -> None:
        cache.get("a")
        cache.get_many([f"b{number}" for number in range(7)])
        cache.set_many(dict.fromkeys("abcdefg", 1))

    with pytest.raises(AssertionError) as caught, assert_round_trips(1):
        calls()
    assert str(caught.value) == (
        "3 round trips, 1 expected:\n"
        "  1. default: GET on :1:a\n"
        "  2. default: MGET on :1:b0, :1:b1, :1:b2, :1:b3, :1:b4, and 2 more\n"
        "  3. default: SET SET SET SET SET and 2 more on :1:a, :1:b, :1:c, :1:d, :1:e, and 2 more"
    )
    with pytest.raises(AssertionError, match=r"^0 round trips, 1 expected$"), assert_round_trips(1):
        pass


def test_one_alias_may_be_counted() -> None:
    with assert_round_trips(1, using="other"):
        cache.get("k")
        aliases["other"].get("k")
    with (
        pytest.raises(AssertionError, match=r"^1 round trips on the alias 'other', 2 expected"),
        assert_round_trips(2, using="other"),
    ):
        aliases["other"].get("k")


def test_blocks_may_stand_in_one_another() -> None:
    with assert_round_trips(3):
        cache.get("a")
        with assert_round_trips(1):
            cache.get("b")
        cache.get("c")
    with assert_round_trips(0):
        pass


def test_an_exception_goes_on_and_ends_the_block() -> None:
    with pytest.raises(KeyError), assert_round_trips(5):
        raise KeyError
    with assert_round_trips(1):
        cache.get("k")
