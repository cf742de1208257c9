"""execute() and aexecute() send any command over the shared connection and give plain Python
values back, every string as bytes; what the server refuses is a ResponseError with the server's words.
"""

from __future__ import annotations

import enum
from typing import Any

import pytest
from django.utils.translation import gettext_lazy
from support.server import ValkeyServer


def lua(body: str) -> tuple[str, str, int]:
    return ("EVAL", f"redis.setresp(3); {body}", 0)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (("INCR", "n"), 1),
        (("STRLEN", "missing"), 0),
        (("GET", "missing"), None),
        (("ECHO", "text"), b"text"),
        (("ECHO", b"\x00\xff"), b"\x00\xff"),
        (("ECHO", ""), b""),
        (("ECHO", "clé"), "clé".encode()),
        (("ECHO", 42), b"42"),
        (("ECHO", 0.5), b"0.5"),
        (("MGET", "a", "b"), [None, None]),
        (("LRANGE", "missing", 0, -1), []),
        (("HGETALL", "missing"), {}),
        (lua("return {1, {'two', {3}}, false}"), [1, [b"two", [3]], False]),
        (lua("return true"), True),
        (lua("return {double = 1.5}"), 1.5),
        (lua("return {map = {a = {map = {b = true}}}}"), {b"a": {b"b": True}}),
    ],
    ids=str,
)
def test_replies_are_plain_python_values(cache: Any, command: tuple[Any, ...], expected: object) -> None:
    reply = cache.execute(*command)
    assert reply == expected
    assert type(reply) is type(expected)


def test_what_python_hashes_in_a_reply_is_hashable(cache: Any) -> None:
    members = lua("return {set = {[{map = {a = {'b', {set = {c = true}}}}}] = true}}")
    assert cache.execute(*members) == {((b"a", (b"b", frozenset({b"c"}))),)}
    info = cache.execute("COMMAND", "INFO", "XADD")
    assert info[0][0] == b"xadd"


def test_replies_of_data_types(cache: Any) -> None:
    assert cache.execute("HSET", "hash", "f", "1", "g", "2") == 2
    assert cache.execute("HGETALL", "hash") == {b"f": b"1", b"g": b"2"}
    assert cache.execute("ZADD", "zset", 1.5, "member") == 1
    score = cache.execute("ZSCORE", "zset", "member")
    assert score == 1.5
    assert type(score) is float
    cache.execute("SADD", "set", "x", "y")
    assert sorted(cache.execute("SMEMBERS", "set")) == [b"x", b"y"]
    cache.execute("RPUSH", "list", "x", "y")
    assert cache.execute("LRANGE", "list", 0, -1) == [b"x", b"y"]


def strings(reply: object) -> list[object]:
    """What is text in a reply, at any depth."""
    if isinstance(reply, dict):
        return [text for pair in reply.items() for part in pair for text in strings(part)]
    if isinstance(reply, list | tuple | set | frozenset):
        return [text for part in reply for text in strings(part)]
    return [reply] if isinstance(reply, str | bytes) else []


@pytest.mark.parametrize(
    ("command", "holds"),
    [
        (("PING",), b"PONG"),  # a status
        (("SET", "k", "v"), b"OK"),
        (("TYPE", "missing"), b"none"),
        (("ECHO", "text"), b"text"),  # a bulk string
        (("INFO", "server"), b"# Server"),  # a verbatim text
        (("CLIENT", "LIST"), b"id="),
        (("CONFIG", "GET", "port"), b"port"),
        (("COMMAND", "INFO", "GET"), b"readonly"),  # statuses in sets
        (("XINFO", "HELP"), b"XINFO"),
        (lua("return {map = {a = redis.status_reply('S')}}"), b"S"),
        (lua("return {verbatim_string = {format = 'txt', string = 'text'}}"), b"text"),
    ],
    ids=str,
)
def test_every_string_of_a_reply_is_bytes(cache: Any, command: tuple[Any, ...], holds: bytes) -> None:
    found = strings(cache.execute(*command))
    assert {type(text) for text in found} <= {bytes}
    assert any(holds in text for text in found)


def test_the_words_of_a_command_may_be_of_many_types(cache: Any) -> None:
    class Text(str):
        __slots__ = ()

    class Level(enum.IntEnum):
        HIGH = 7

    for word, sent in [
        (Text("text"), b"text"),
        (bytearray(b"\x00\xff"), b"\x00\xff"),
        (memoryview(b"view"), b"view"),
        (Level.HIGH, b"7"),
        (2**70, str(2**70).encode()),
        (-0.5, b"-0.5"),
    ]:
        assert cache.execute("ECHO", word) == sent


def test_keys_are_sent_as_they_are(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(KEY_PREFIX="app")
    cache.execute("SET", "k", "v")
    assert server.keys() == [b"k"]


def test_the_connection_is_the_one_of_the_cache(cache: Any, server: ValkeyServer) -> None:
    cache.set("k", 1)
    number = cache.execute("CLIENT", "ID")
    assert type(number) is int
    assert str(number) in {client["id"] for client in server.clients()}
    assert cache.execute("CLIENT", "ID") == number


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("NOSUCHCOMMAND", "x"), "unknown command"),
        (("GET",), "wrong number of arguments"),
        (("LPUSH", ":1:string", "x"), "WRONGTYPE"),
        (lua("return redis.error_reply('MYERR of my own')"), "MYERR of my own"),
    ],
    ids=str,
)
def test_a_refusal_is_a_response_error_with_the_words_of_the_server(
    cache: Any, command: tuple[Any, ...], text: str
) -> None:
    from django_vcache import exceptions

    cache.set("string", "v")
    with pytest.raises(exceptions.ResponseError, match=text) as caught:
        cache.execute(*command)
    assert isinstance(caught.value, exceptions.VcacheError)
    assert cache.get("string") == "v"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "needs a command"),
        ((None,), "argument 1 must be str, bytes, int or float, not NoneType"),
        (("GET", None), "argument 2 must be str, bytes, int or float, not NoneType"),
        (("GET", ["k"]), "argument 2 .*not list"),
        (("GET", object()), "argument 2 .*not object"),
        (("SET", "k", True), "argument 3 .*not bool"),
        (("SET", "k", gettext_lazy("lazy")), "argument 3 .*not __proxy__"),
        (("SET", "k", "a\ud800"), r"argument 3 must be text that UTF-8 can hold, and 'a\\ud800' has a lone surrogate"),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value[:2]) if len(value) > 2 else "an object",
)
def test_arguments_that_cannot_be_sent_are_refused_by_their_place(
    cache: Any, server: ValkeyServer, args: tuple[Any, ...], message: str
) -> None:
    cache.get("warm")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises((TypeError, ValueError), match=message):
        cache.execute(*args)
    assert server.command_counts() == {}
