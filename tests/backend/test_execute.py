"""execute() and aexecute() send any command over the shared connection and give plain Python
values back; what the server refuses is a ResponseError with the server's words.
"""

from __future__ import annotations

from typing import Any

import pytest
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


def test_a_status_is_its_text(cache: Any) -> None:
    assert cache.execute("PING") in ("PONG", b"PONG")
    assert cache.execute("SET", "k", "v") in ("OK", b"OK")


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


@pytest.mark.parametrize("args", [(), (None,), ("GET", None), ("GET", ["k"]), ("GET", object())])
def test_arguments_that_cannot_be_sent_are_refused(cache: Any, server: ValkeyServer, args: tuple[Any, ...]) -> None:
    cache.get("warm")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises((TypeError, ValueError)):
        cache.execute(*args)
    assert server.command_counts() == {}
