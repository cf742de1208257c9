"""Streams, groups and consumers may be called as an option is. A read blocks if it has the option BLOCK, where options
stand, and not because something in it is called so.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import Any

import pytest
from support.caches import make_cache
from support.driver import open_runner
from support.server import ValkeyServer

HANG = 8.0
_NUMBERS = itertools.count()
# Their answers on a stream with one entry that no group has read yet.
PLAIN = [
    ("XREADGROUP", "GROUP", "block", "block", "COUNT", 1, "STREAMS", "block", ">"),
    ("XREADGROUP", "GROUP", "block", "block", "STREAMS", "block", ">"),
    ("XREADGROUP", "GROUP", "block", "BLOCK", "NOACK", "STREAMS", "block", ">"),
    ("xreadgroup", "group", "block", "streams", "count", 1, "streams", "block", ">"),
    ("XREAD", "STREAMS", "block", "0"),
    ("XREAD", "COUNT", 1, "STREAMS", "block", "0"),
    ("XREAD", "COUNT", 1, "STREAMS", "block", "BLOCK", "0", "0"),
]
# They do wait, for a tenth of a second.
WAITING = [
    ("XREADGROUP", "GROUP", "block", "block", "BLOCK", 100, "STREAMS", "empty", ">"),
    ("XREADGROUP", "GROUP", "block", "block", "COUNT", 1, "BLOCK", 100, "NOACK", "STREAMS", "empty", ">"),
    ("XREADGROUP", "BLOCK", 100, "GROUP", "block", "block", "STREAMS", "empty", ">"),
    ("XREAD", "BLOCK", 100, "STREAMS", "empty", "$"),
    ("XREAD", "COUNT", 1, "block", 100, "STREAMS", "empty", "$"),
]


def spelled(command: tuple[Any, ...]) -> str:
    return " ".join(map(str, command))


def fill(server: ValkeyServer) -> bytes:
    """A stream `block` with one entry and a group `block`, and an empty one with such a group; the entry's id."""
    entry = server.execute("XADD", "block", "*", "f", "v")
    assert isinstance(entry, bytes)
    server.execute("XGROUP", "CREATE", "block", "block", "0")
    server.execute("XGROUP", "CREATE", "empty", "block", "0", "MKSTREAM")
    return entry


@pytest.fixture
def own_name() -> str:
    """A name for the connections of one test."""
    return f"reads-{next(_NUMBERS)}"


def connections(server: ValkeyServer, name: str) -> int:
    return len([client for client in server.clients() if client["name"] == name])


# It counts the connections to one server.
@pytest.mark.one_server
@pytest.mark.parametrize("command", PLAIN, ids=spelled)
def test_a_name_does_not_make_a_read_block(
    drive: Any, server: ValkeyServer, own_name: str, command: tuple[Any, ...]
) -> None:
    entry = fill(server)
    cache = drive(make_cache(server, CLIENT_NAME=own_name))
    cache.get("warm")
    assert cache.execute(*command) == {b"block": [[entry, [b"f", b"v"]]]}
    assert connections(server, own_name) == 1, "it went over another connection"


@pytest.mark.parametrize(("form", "command"), [("blocking", PLAIN[0]), ("asyncio", PLAIN[-1]), ("uvloop", PLAIN[0])])
def test_such_a_read_has_the_usual_deadline(fresh_server: ValkeyServer, form: str, command: tuple[Any, ...]) -> None:
    from django_vcache.exceptions import TimeoutError

    fill(fresh_server)
    cache = make_cache(fresh_server, RESPONSE_TIMEOUT=0.5)
    outcome: list[Any] = []

    def call() -> None:
        try:
            if form == "blocking":
                outcome.append(cache.execute(*command))
                return

            async def awaited() -> Any:
                async with asyncio.timeout(HANG):
                    return await cache.aexecute(*command)

            with open_runner(form) as runner:
                outcome.append(runner.run(awaited()))
        except Exception as error:
            outcome.append(error)

    # There is a connection for a command that blocks, in case it is taken for one.
    assert cache.execute("BLPOP", "nothing", 0.01) is None
    cache.get("warm")
    fresh_server.pause()
    calling = threading.Thread(target=call, daemon=True)
    calling.start()
    calling.join(2 * HANG if form != "blocking" else HANG)
    fresh_server.resume()
    assert outcome, "it has no deadline"
    assert isinstance(outcome[0], TimeoutError)
    assert "0.5 s" in str(outcome[0])
    calling.join(HANG)


# It counts the connections to one server.
@pytest.mark.one_server
@pytest.mark.parametrize("command", WAITING, ids=spelled)
def test_the_option_does(drive: Any, server: ValkeyServer, own_name: str, command: tuple[Any, ...]) -> None:
    fill(server)
    cache = drive(make_cache(server, CLIENT_NAME=own_name))
    cache.get("warm")
    assert cache.execute(*command) is None
    assert connections(server, own_name) == 2
