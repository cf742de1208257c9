"""What the server says reaches a guest whole: every type of RESP3, nested and empty and large, errors with their code
wherever they stand, pipelines, transactions and scripts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from support.fake import FakeServer, Peer
from support.guests import default_on
from support.server import ValkeyServer

MEGABYTE = 1024 * 1024


@pytest.fixture(scope="module")
def talkative() -> Iterator[ValkeyServer]:
    """A server that makes up a reply of any type."""
    with ValkeyServer(enable_debug_command="yes") as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("STRING", "bulk-string('\"Hello World\"')"),
        ("INTEGER", "int(12345)"),
        ("DOUBLE", "double(3.141)"),
        ("NULL", "nil"),
        ("ARRAY", "array([int(0), int(1), int(2)])"),
        ("SET", "set([int(0), int(1), int(2)])"),
        ("MAP", "map([(int(0), boolean(false)), (int(1), boolean(true)), (int(2), boolean(false))])"),
        ("ATTRIB", "bulk-string('\"Some real reply following the attribute\"')"),
        ("PUSH", "bulk-string('\"Some real reply following the push reply\"')"),
        ("VERBATIM", 'verbatim-string(Text,"This is a verbatim\\nstring")'),
        ("TRUE", "boolean(true)"),
        ("FALSE", "boolean(false)"),
        ("BIGNUM", f"big-number({list(b'1234567999999999999999999999999999999')})"),
    ],
)
def test_each_type_of_the_protocol(talkative: ValkeyServer, probe: ModuleType, way: Any, kind: str, told: str) -> None:
    with default_on(talkative):
        assert way(probe).reply(["DEBUG", "PROTOCOL", kind]) == told


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("return {}", "array([])"),
        ("return {{}, {{}}}", "array([array([]), array([array([])])])"),
        ("return {1, {2, {3, {'x', false}}}}", "array([int(1), array([int(2), array([int(3), array([B, nil])])])])"),
        ("redis.setresp(3); return {map = {a = {1, 2}}}", "map([(bulk-string('\"a\"'), array([int(1), int(2)]))])"),
        ("redis.setresp(3); return {{map = {}}, {set = {}}}", "array([map([]), set([])])"),
        ("return {double = -1.5}", "double(-1.5)"),
        ("return {ok = 'fine'}", 'simple-string("fine")'),
        ("return ''", "bulk-string('\"\"')"),
        ("return -9007199254740993", "int(-9007199254740992)"),
    ],
)
def test_replies_in_replies(cache: Any, probe: ModuleType, way: Any, script: str, told: str) -> None:
    assert way(probe).reply(["EVAL", script, "0"]) == told.replace("B", "bulk-string('\"x\"')")


def test_nesting_goes_as_deep_as_for_the_wheel(cache: Any, probe: ModuleType) -> None:
    from django_vcache.exceptions import ConnectionError

    deepest = None
    for depth in range(1, 140):
        script = f"local t = {{1}} for i = 1, {depth} do t = {{t}} end return t"
        try:
            cache.execute("EVAL", script, 0)
        except ConnectionError:
            with pytest.raises(ConnectionError, match="nested"):
                probe.reply(["EVAL", script, "0"])
            break
        deepest = depth
        told = probe.reply(["EVAL", script, "0"])
        assert told.count("array(") == depth + 1
    assert deepest is not None
    assert deepest > 50


@pytest.mark.parametrize(
    "value",
    [b"", b"\0", b"\r\n$5\r\n", bytes(range(256)), b"x" * MEGABYTE, b"\xff\0" * (8 * MEGABYTE)],
    ids=["empty", "nul", "RESP in it", "all bytes", "1 MiB", "16 MiB"],
)
def test_strings_of_any_bytes_and_length(
    server: ValkeyServer, cache: Any, probe: ModuleType, way: Any, value: bytes
) -> None:
    hot = way(probe)
    server.execute("SET", "k", value)
    assert hot.fetch("k") == value
    assert hot.echo(value) == value


def test_long_arrays(cache: Any, probe: ModuleType, way: Any) -> None:
    told = way(probe).reply(["EVAL", "local t = {} for i = 1, 100000 do t[i] = i end return t", "0"])
    assert told == f"array([{', '.join(f'int({number})' for number in range(1, 100_001))}])"


def test_errors_inside_a_reply(cache: Any, probe: ModuleType, way: Any) -> None:
    script = "return {1, redis.error_reply('MY problem'), {redis.error_reply('ALONE'), 'x'}}"
    told = way(probe).raw(["EVAL", script, "0"])
    assert re.fullmatch(
        r"array\(\[int\(1\), .*MY.*problem.*, array\(\[.*ALONE.*, bulk-string\('\"x\"'\)\]\)\]\)", told
    ), told


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["NOPE"], "ERR", "ERR unknown command 'NOPE'"),
        (["INCR", "text"], "ERR", "ERR value is not an integer or out of range"),
        (["LPUSH", "text", "x"], "WRONGTYPE", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        (["EVALSHA", "0" * 40, "0"], "NOSCRIPT", "NOSCRIPT No matching script"),
        (["EVAL", "return redis.error_reply('MY own problem')", "0"], "MY", "MY own problem"),
        (["EVAL", "return {err = 'ALONE'}", "0"], "ALONE", "ALONE"),
        (["EVAL", "return {1, {redis.error_reply('MY own')}}", "0"], "MY", "MY own"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_servers_errors_keep_their_code_and_text(
    cache: Any, probe: ModuleType, way: Any, words: list[str], code: str, text: str
) -> None:
    from django_vcache.exceptions import ResponseError

    cache.execute("SET", "text", "x")
    with pytest.raises(ResponseError) as caught:
        way(probe).reply(words)
    assert type(caught.value) is ResponseError
    assert caught.value.code == code
    assert str(caught.value).startswith(f"cache 'default': {text}")


ODD = [
    b"-\r\n",
    b"- \r\n",
    b"-X\r\n",
    b"-X  two spaces\r\n",
    b"-\xff\xfe not UTF-8\r\n",
    b"!12\r\nTWO lines\r\nx\r\n",
    b"!0\r\n\r\n",
    b"+\r\n",
    b"+\xff\r\n",
    b"$-1\r\n",
    b"*-1\r\n",
    b"_\r\n",
    b",inf\r\n",
    b",-inf\r\n",
    b",nan\r\n",
    b",-0.0\r\n",
    b"(-5\r\n",
    b"=8\r\nmkd:text\r\n",
    b"=8\r\nxyz:text\r\n",
    b"=4\r\ntxt:\r\n",
    b"%1\r\n*0\r\n~0\r\n",
    b"*2\r\n!12\r\nTWO lines\r\nx\r\n:1\r\n",
    b"|1\r\n+ttl\r\n:3\r\n*1\r\n|1\r\n+ttl\r\n:3\r\n:5\r\n",
    b":9223372036854775807\r\n",
    b":-9223372036854775808\r\n",
    b"?unknown\r\n",
    b"$5\r\nshort",
]


def outcome(call: Any, *args: Any) -> tuple[Any, ...]:
    try:
        return ("value", call(*args))
    except Exception as error:
        # Which connection it was is of no interest.
        return (type(error), getattr(error, "code", None), re.sub(r"127\.0\.0\.1:\d+", "", str(error)).rstrip())


@pytest.mark.parametrize("reply", ODD, ids=repr)
def test_what_the_wheel_can_read_a_guest_can(probe: ModuleType, way: Any, reply: bytes) -> None:
    from django_vcache.exceptions import VcacheError

    def say(peer: Peer) -> None:
        peer.shake_hands()
        peer.command()
        peer.send(reply)
        if not reply.endswith(b"\r\n"):
            return
        for _ in peer.commands():
            peer.send(b":1\r\n")

    with FakeServer(say) as fake, default_on(fake) as cache:
        wheels = outcome(cache.execute, "INCR", "k")
    with FakeServer(say) as fake, default_on(fake):
        guests = outcome(way(probe).raw, ["INCR", "k"])
    if wheels[0] == "value":
        assert guests[0] == "value", guests
        value = wheels[1]
        if isinstance(value, float):
            told = float(re.fullmatch(r"double\((.*)\)", guests[1])[1])
            assert math.copysign(1, told) == math.copysign(1, value)
            assert told == value or math.isnan(told) is math.isnan(value) is True
    else:
        assert issubclass(wheels[0], VcacheError)
        assert guests == wheels


def test_a_pipeline(cache: Any, probe: ModuleType, way: Any) -> None:
    commands = [["SET", "a", "1"], ["INCR", "a"], ["GET", "a"], ["LRANGE", "nothing", "0", "-1"]]
    told = ["ok", "int(2)", "bulk-string('\"2\"')", "array([])"]
    assert way(probe).pipeline(commands, False) == told
    assert way(probe).pipeline(commands, True) == told


def test_a_long_pipeline(cache: Any, probe: ModuleType, way: Any) -> None:
    told = way(probe).pipeline([["INCR", "n"]] * 5000, False)
    assert told == [f"int({number})" for number in range(1, 5001)]
    assert way(probe).pipeline([["ECHO", "x" * 1000]] * 1000, True) == [f"bulk-string('\"{'x' * 1000}\"')"] * 1000


@pytest.mark.parametrize("atomic", [False, True])
def test_an_error_in_a_pipeline_is_told_and_the_next_call_gets_its_own_reply(
    server: ValkeyServer, cache: Any, probe: ModuleType, way: Any, atomic: bool
) -> None:
    from django_vcache.exceptions import ResponseError

    hot = way(probe)
    server.execute("SET", "text", "x")
    for _ in range(10):
        with pytest.raises(ResponseError, match="command 2 of a pipeline") as caught:
            hot.pipeline([["INCR", "n"], ["LPUSH", "text", "x"], ["INCR", "n"]], atomic)
        assert caught.value.code == "WRONGTYPE"
        assert hot.fetch("text") == b"x"
    assert server.execute("GET", "n") == b"20"


def test_a_transaction(server: ValkeyServer, cache: Any, probe: ModuleType, way: Any) -> None:
    from django_vcache.exceptions import ResponseError

    hot = way(probe)
    assert hot.transaction("n") == (2, 5)
    server.execute("SET", "n", "text")
    with pytest.raises(ResponseError):
        hot.transaction("n")
    with pytest.raises(ResponseError, match="unknown command 'NOPE'"):
        hot.pipeline([["INCR", "n"], ["NOPE"]], True)
    assert hot.fetch("n") == b"text"


def test_a_script_that_the_server_has_forgotten_is_loaded_again(
    server: ValkeyServer, cache: Any, quota: ModuleType, way: Any
) -> None:
    hot = way(quota)
    hot.grant(1, 10)
    for left in (9, 8, 7):
        server.execute("SCRIPT", "FLUSH")
        assert hot.spend(1) == left
    assert hot.spend(1, 8) is None
    assert hot.left([1, 2]) == [7, 0]
    assert hot.left([]) == []


def test_a_reply_of_another_type_than_asked_for_is_a_value_error(
    server: ValkeyServer, cache: Any, quota: ModuleType, way: Any
) -> None:
    server.execute("SET", "quota:1", "many")
    with pytest.raises(ValueError, match="cache 'default'") as caught:
        way(quota).left([1])
    assert type(caught.value) is ValueError
