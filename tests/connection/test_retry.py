"""When the connection breaks under a command: one that does no harm when repeated is sent again, once;
one that would is not, and its caller is told; what was never written simply goes out on the next one.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, answer, answer_keys
from support.server import ValkeyServer

LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 5.0}
SHA = "0" * 40


def connection_error() -> type[Exception]:
    from django_vcache.exceptions import ConnectionError

    return ConnectionError


def dropping(times: int) -> Any:
    """A script whose first `times` connections end after their first command, unanswered."""

    def script(peer: Peer) -> None:
        if peer.number > times:
            return answer_keys(peer)
        peer.shake_hands()
        peer.command()

    return script


REPEATABLE = [
    ("GET", "k"),
    ("MGET", "a", "b"),
    ("EXISTS", "k"),
    ("TTL", "k"),
    ("SET", "k", "v"),
    ("SET", "k", "v", "PX", 1000),
    ("set", "k", "v", "ex", 1000),
    ("SET", "k", "v", "EXAT", 9_999_999_999),
    ("SET", "k", "v", "PXAT", 9_999_999_999_999),
    ("SET", "k", "v", "KEEPTTL"),
    ("SETEX", "k", 1000, "v"),
    ("MSET", "a", "1", "b", "2"),
    ("XREAD", "STREAMS", "s", "0"),
    ("OBJECT", "ENCODING", "k"),
    ("ZRANGE", "z", 0, -1),
    ("HGETALL", "h"),
    ("LRANGE", "l", 0, -1),
    ("XRANGE", "s", "-", "+"),
    ("PING",),
    ("SCRIPT", "EXISTS", SHA),
]
HARMFUL = [
    ("INCR", "k"),
    ("INCRBY", "k", 5),
    ("DECR", "k"),
    ("INCRBYFLOAT", "k", 0.5),
    ("APPEND", "k", "v"),
    ("SET", "k", "v", "NX"),
    ("SET", "k", "v", "PX", 1000, "nx"),
    ("SET", "k", "v", "GET"),
    ("SET", "k", "v", "IFEQ", "old"),
    ("SET", "k", "v", "EX", 1000, "IFEQ", "old"),
    ("SET", "k", "v", "OFTOMORROW"),
    ("SETNX", "k", "v"),
    ("MSETNX", "a", "1"),
    ("MSETEX", 1, "k", "v"),
    ("GETEX", "k", "EX", 5),
    ("DELIFEQ", "k", "v"),
    ("HSETEX", "h", "EX", 5, "FIELDS", 1, "f", "v"),
    ("HGETEX", "h", "EX", 5, "FIELDS", 1, "f"),
    ("EXPIRE", "k", 5),
    ("UNLINK", "k"),
    ("GETSET", "k", "v"),
    ("GETDEL", "k"),
    ("DEL", "k"),
    ("LPUSH", "l", "v"),
    ("RPOP", "l"),
    ("XADD", "s", "*", "f", "v"),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "s", ">"),
    ("EVAL", "return 1", 0),
    ("EVALSHA", SHA, 0),
    ("FCALL", "f", 0),
    ("PUBLISH", "c", "m"),
    ("SPOP", "s"),
    ("BLPOP", "l", 1),
    ("NOBODYKNOWS", "k"),
]


@pytest.mark.parametrize("command", REPEATABLE, ids=str)
def test_a_repeatable_command_is_sent_again(drive: Any, command: tuple[Any, ...]) -> None:
    with FakeServer(dropping(1)) as fake:
        drive(make_cache(fake.url, **LIMITS)).execute(*command)
        sent = [str(part).encode() for part in command]
        assert fake.received() == [(1, sent), (2, sent)]


@pytest.mark.parametrize("command", HARMFUL, ids=str)
def test_a_harmful_command_is_never_sent_twice(drive: Any, command: tuple[Any, ...]) -> None:
    with FakeServer(dropping(1)) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        with pytest.raises(connection_error(), match="may or may not have been executed"):
            cache.execute(*command)
        assert cache.execute("GET", "after") == b"after"
        sent = [str(part).encode() for part in command]
        assert [entry for entry in fake.received() if entry[1] != [b"GET", b"after"]] == [(1, sent)]


# The server with TLS, Redis 7.0, has no IFEQ.
@pytest.mark.plain_server
def test_a_conditional_set_whose_reply_is_lost_is_not_answered_by_a_second(
    drive: Any, fresh_server: ValkeyServer
) -> None:
    """Sent twice, it would answer None although it has set the value: the old one is not there any more."""
    fresh_server.execute("SET", "k", "old")

    def lose_the_reply(peer: Peer) -> None:
        peer.shake_hands()
        if peer.number > 1:
            return answer_keys(peer)
        assert fresh_server.execute(*peer.command()) == "OK"

    with FakeServer(lose_the_reply) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        with pytest.raises(connection_error(), match="may or may not have been executed"):
            cache.execute("SET", "k", "new", "IFEQ", "old")
        assert len(fake.received("SET")) == 1
    assert fresh_server.execute("GET", "k") == b"new"


def test_a_repeatable_command_is_sent_again_only_once(drive: Any) -> None:
    with FakeServer(dropping(5)) as fake:
        with pytest.raises(connection_error()):
            drive(make_cache(fake.url, **LIMITS)).execute("GET", "k")
        assert fake.received() == [(1, [b"GET", b"k"]), (2, [b"GET", b"k"])]


# What Django's methods send, beside execute().
METHODS = [
    ("get", ("k",), True),
    ("get_many", (["a", "b"],), True),
    ("has_key", ("k",), True),
    ("set", ("k", "v"), True),
    ("set_many", ({"a": 1},), True),
    ("touch", ("k", 10), True),
    ("add", ("k", "v"), False),
    ("delete", ("k",), False),
    ("incr", ("k",), False),
]


@pytest.mark.parametrize(("name", "args", "repeated"), METHODS, ids=[method[0] for method in METHODS])
def test_methods_of_the_cache_follow_the_same_rule(
    drive: Any, name: str, args: tuple[Any, ...], repeated: bool
) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.shake_hands()
            peer.command()
            return
        peer.shake_hands()
        for command in peer.commands():
            peer.send(b"*0\r\n" if command[0] == b"MGET" else b"_\r\n" if command[0] == b"GET" else answer(command))

    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        if repeated:
            getattr(cache, name)(*args)
            assert [number for number, _ in fake.received()] == [1, 2]
        else:
            with pytest.raises(connection_error()):
                getattr(cache, name)(*args)
            assert [number for number, _ in fake.received()] == [1]


def test_of_many_in_flight_each_follows_its_own_rule(run: Any) -> None:
    """The first connection takes fifty commands, answers ten, and breaks."""

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        commands = [peer.command() for _ in range(50)]
        for command in commands[:10]:
            peer.send(answer(command))

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            calls = []
            for number in range(50):
                name = "GET" if number % 2 else "INCR"
                calls.append(asyncio.ensure_future(cache.aexecute(name, f"k{number}")))
            return await asyncio.gather(*calls, return_exceptions=True)

        results = run(main())
        for number, result in enumerate(results):
            if number % 2:
                assert result == f"k{number}".encode()
            elif number < 10:
                assert result == 1
            else:
                assert isinstance(result, connection_error())
        assert len(fake.received("INCR")) == 25
        again = [command[1] for number, command in fake.received("GET") if number == 2]
        assert again == [f"k{number}".encode() for number in range(11, 50, 2)]


def test_what_was_not_written_yet_goes_out_on_the_next_connection(run: Any) -> None:
    """The socket is full of a large value that nobody reads when the connection breaks."""
    full = threading.Event()
    blob = bytes(64 * 1024 * 1024)

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        peer.command()
        peer.send(b":1\r\n")
        full.wait(10)

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, RESPONSE_TIMEOUT=30.0)

        async def main() -> list[Any]:
            assert await cache.aexecute("INCR", "first") == 1
            large = asyncio.ensure_future(cache.aexecute("APPEND", "large", blob))
            await asyncio.sleep(0.05)
            unwritten = [asyncio.ensure_future(cache.aexecute("INCR", f"k{number}")) for number in range(20)]
            await asyncio.sleep(0.05)
            full.set()
            return await asyncio.gather(large, *unwritten, return_exceptions=True)

        large, *unwritten = run(main())
        assert isinstance(large, connection_error()), "part of it was written"
        assert unwritten == [1] * 20
        assert [number for number, _ in fake.received("INCR")] == [1] + [2] * 20
        assert fake.received("APPEND") == []


def test_calls_made_while_reconnecting_go_out_on_the_next_connection(run: Any) -> None:
    go_on = threading.Event()

    def script(peer: Peer) -> None:
        if peer.number == 1:
            peer.shake_hands()
            peer.command()
            return
        go_on.wait(10)
        answer_keys(peer)

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            first = asyncio.ensure_future(cache.aexecute("GET", "first"))
            await asyncio.to_thread(fake.wait_for, 1)
            await asyncio.sleep(0.05)
            later = [asyncio.ensure_future(cache.aexecute("INCR", f"k{number}")) for number in range(20)]
            await asyncio.sleep(0.05)
            go_on.set()
            return await asyncio.gather(first, *later)

        try:
            assert run(main()) == [b"first"] + [1] * 20
        finally:
            go_on.set()
        assert {number for number, _ in fake.received("INCR")} == {2}
