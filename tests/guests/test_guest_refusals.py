"""A guest cannot shift a reply of another caller's or change the connection for others: its own library looks at what
it sends, and the wheel does once more, whatever the guest says of it. What is refused reaches no server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from support.fake import FakeServer, Peer, answer
from support.guests import default_on
from support.server import ValkeyServer

IDEMPOTENT, BLOCKS = 1, 2
OKAY, BULK, SIMPLE, ARRAY, NIL, ERROR = 5, 2, 4, 3, 0, 12

REFUSED = [
    (["SELECT", "3"], "SELECT cannot run on the shared connection: configure another alias"),
    (["select", "3"], "SELECT cannot run"),
    (["Subscribe", "c"], "SUBSCRIBE cannot run on the shared connection: it needs a separate connection"),
    (["CLIENT", "REPLY", "OFF"], "CLIENT REPLY cannot run"),
    (["client", "reply", "skip"], "CLIENT REPLY cannot run"),
    (["CLIENT", "TRACKING", "ON"], "CLIENT TRACKING cannot run"),
    (["MONITOR"], "MONITOR cannot run"),
    (["RESET"], "RESET cannot run on the shared connection: the connection looks after itself"),
    (["QUIT"], "QUIT cannot run"),
    (["HELLO", "2"], "HELLO cannot run"),
    (["AUTH", "s3cret"], "AUTH cannot run"),
    (["SYNC"], "SYNC cannot run"),
    (["WAIT", "1", "0"], "WAIT cannot run"),
    (["MULTI"], "MULTI cannot run on the shared connection: use a script, or a transaction that is sent whole"),
    (["EXEC"], "EXEC cannot run"),
    (["DISCARD"], "DISCARD cannot run"),
    (["WATCH", "k"], "WATCH cannot run"),
    (["READONLY"], "READONLY cannot run"),
    (["SCRIPT", "DEBUG", "YES"], "SCRIPT DEBUG cannot run"),
]
IDS = [" ".join(words) for words, _ in REFUSED]


def packed(*commands: str) -> bytes:
    """RESP of commands whose words stand apart by spaces."""
    parts = []
    for command in commands:
        words = [word.encode() for word in command.split(" ")]
        parts += [b"*%d\r\n" % len(words), *(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)]
    return b"".join(parts)


@pytest.fixture
def untouched(server: ValkeyServer, cache: Any) -> Iterator[None]:
    """The connection is the same afterwards, in the same database, and nothing was sent on it meanwhile."""
    cache.set("a", "mine")
    own = cache.execute("CLIENT", "ID")
    server.execute("CONFIG", "RESETSTAT")
    yield
    assert server.command_counts() == {}
    assert cache.execute("CLIENT", "ID") == own
    assert cache.get("a") == "mine"


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=IDS)
def test_a_command_that_changes_the_connection_is_refused(
    untouched: None, probe: ModuleType, way: Any, words: list[str], told: str
) -> None:
    for call in (
        lambda: way(probe).reply(words),
        lambda: way(probe).packet([words]),
        lambda: way(probe).packet([["GET", "a"], words, ["GET", "b"]]),
        lambda: way(probe).pipeline([["GET", "a"], words], False),
    ):
        with pytest.raises(ValueError, match="shared connection") as caught:
            call()
        assert told in str(caught.value)
        assert "s3cret" not in str(caught.value)
    with pytest.raises(ValueError, match=words[0].upper()):
        way(probe).pipeline([["GET", "a"], words], True)


@pytest.mark.parametrize(("words", "told"), REFUSED, ids=IDS)
def test_the_wheel_refuses_what_a_guest_did_not_look_at(
    untouched: None, probe: ModuleType, way: Any, words: list[str], told: str
) -> None:
    probe.find_table()
    command = " ".join(words)
    for commands in ([command], ["GET a", command], [command, "GET a"], ["GET a", command, "GET b"]):
        with pytest.raises(ValueError, match="shared connection") as caught:
            way(probe).raw_call(packed(*commands), len(commands))
        assert told in str(caught.value)


GET = packed("GET a")
MISFRAMED = {
    "nothing": (b"", 0),
    "nothing that has a reply": (b"", 1),
    "less replies than commands": (packed("GET a", "GET b"), 1),
    "more replies than commands": (GET, 2),
    "no reply": (GET, 0),
    "a transaction's replies as one": (packed("MULTI", "GET a", "EXEC"), 1),
    "the last byte missing": (GET[:-1], 1),
    "the last word missing": (GET[:13], 1),
    "a byte too many": (GET + b"\n", 1),
    "half a command too many": (GET + b"*1\r\n", 1),
    "half a command, announced": (GET + b"*1\r\n", 2),
    "a length that is too small": (b"*2\r\n$3\r\nGET\r\n$1\r\nab\r\n", 1),
    "a length that is too large": (b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n", 1),
    "a length without end": (b"*2\r\n$3\r\nGET\r\n$99999999999999999999\r\na\r\n", 1),
    "no words": (b"*0\r\n", 1),
    "a negative number": (b"*-1\r\n", 1),
    "an inline command": (b"GET a\r\n", 1),
    "a command inside of a command": (b"*1\r\n" + GET, 1),
}


@pytest.mark.parametrize(("sent", "replies"), MISFRAMED.values(), ids=MISFRAMED)
def test_bytes_that_are_not_as_many_whole_commands_are_refused(
    untouched: None, probe: ModuleType, way: Any, sent: bytes, replies: int
) -> None:
    probe.find_table()
    with pytest.raises(ValueError, match=r"whole commands|was announced as|empty pipeline"):
        way(probe).raw_call(sent, replies)


@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("BLPOP l 0", 0),
        ("blmove l m LEFT RIGHT 0", IDEMPOTENT),
        ("XREAD BLOCK 0 STREAMS s $", 0),
        ("XREADGROUP GROUP g c BLOCK 0 STREAMS s >", 0),
    ],
)
def test_a_blocking_command_that_was_not_announced_is_refused(
    untouched: None, probe: ModuleType, way: Any, command: str, flags: int
) -> None:
    probe.find_table()
    with pytest.raises(ValueError, match="does not block"):
        way(probe).raw_call(packed(command), 1, flags)


def test_a_blocking_command_in_a_pipeline_is_refused(untouched: None, probe: ModuleType, way: Any) -> None:
    probe.find_table()
    commands = [["GET", "a"], ["BLPOP", "l", "0"]]
    for call in (
        lambda: way(probe).packet(commands),
        lambda: way(probe).pipeline(commands, False),
        lambda: way(probe).pipeline(commands, True),
        lambda: way(probe).raw_call(packed("GET a", "BLPOP l 0"), 2, BLOCKS),
        lambda: way(probe).raw_call(packed("MULTI", "BLPOP l 0", "EXEC"), 3, BLOCKS),
    ):
        with pytest.raises(ValueError, match="cannot be part of a pipeline"):
            call()


def test_what_is_right_is_answered_in_every_way(cache: Any, probe: ModuleType, way: Any) -> None:
    probe.find_table()
    call = way(probe).raw_call
    assert call(packed("set a 1"), 1) == [OKAY]
    assert call(packed("GET a", "SET MULTI SELECT", "PING"), 3) == [ARRAY, BULK, OKAY, SIMPLE]
    assert call(packed("multi", "GET a", "exec"), 3) == [ARRAY, OKAY, SIMPLE, ARRAY, BULK]
    assert call(packed("NOSUCHCOMMAND a"), 1)[0] == ERROR
    assert call(packed("BLPOP l 0.01"), 1, BLOCKS) == [NIL]
    assert "QUEUED" in way(probe).packet([["MULTI"], ["GET", "a"], ["EXEC"]])


def test_a_blocking_command_of_a_guest_holds_up_nobody(run: Any, cache: Any, probe: ModuleType) -> None:
    """It says that it would block for a moment; the command says otherwise, and counts."""
    probe.find_table()

    async def main() -> None:
        waiting = asyncio.ensure_future(probe.araw_call(packed("BLPOP l 0"), 1, BLOCKS, 1))
        for number in range(20):
            await cache.aset("k", number)
            assert await cache.aget("k") == number
        assert not waiting.done()
        await cache.aexecute("LPUSH", "l", "x")
        assert await waiting == [ARRAY, BULK, BULK]

    run(main())


def test_a_stream_that_is_called_block_is_read_on_the_shared_connection(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, way: Any
) -> None:
    own = fresh_cache.execute("CLIENT", "ID")
    fresh_cache.execute("XADD", "block", "1-1", "f", "v")
    for words in (["XREAD", "STREAMS", "block", "0"], ["XREAD", "COUNT", "1", "STREAMS", "block", "0-0"]):
        assert "1-1" in way(probe).raw(words)
    assert [int(row["id"]) for row in fresh_server.clients()] == [own]


def lost_once(peer: Peer) -> None:
    """The first connection ends after its first command, unanswered."""
    peer.shake_hands()
    if peer.number == 1:
        peer.command()
        return
    for command in peer.commands():
        peer.send(answer(command))


def is_sent_again(call: Callable[[], object]) -> bool:
    """Whether a call survives a connection that is lost under it."""
    from django_vcache.exceptions import ConnectionError

    with FakeServer(lost_once) as fake, default_on(fake, RESPONSE_TIMEOUT=20.0):
        with contextlib.suppress(ConnectionError):
            call()
        connections = [number for number, _ in fake.received()]
        assert connections in ([1], [1, 2])
        return connections == [1, 2]


@pytest.mark.parametrize(
    ("words", "repeatable", "repeated"),
    [
        (["SET", "k", "v"], None, True),
        (["SET", "k", "v", "PX", "5000"], None, True),
        (["SET", "k", "v", "IFEQ", "old"], None, False),
        (["UNLINK", "k"], None, False),
        (["UNLINK", "k"], True, True),
        (["EVAL", "return 1", "0"], True, True),
        (["GET", "k"], False, False),
    ],
    ids=str,
)
def test_a_guests_promise_is_kept(probe: ModuleType, words: list[str], repeatable: bool | None, repeated: bool) -> None:
    assert is_sent_again(lambda: probe.packet([words], repeatable)) == repeated


@pytest.mark.parametrize(
    ("command", "flags", "repeated"),
    [
        ("SET k v IFEQ old", IDEMPOTENT, False),
        ("SET k v EX 5 NX", IDEMPOTENT, False),
        ("CONFIG RESETSTAT", IDEMPOTENT, False),
        ("SET k v EX 5", IDEMPOTENT, True),
        ("EVALSHA x 0", IDEMPOTENT, True),
        ("GET k", 0, False),
    ],
)
def test_a_guest_that_promises_too_much_is_not_believed(
    probe: ModuleType, command: str, flags: int, repeated: bool
) -> None:
    probe.find_table()
    assert is_sent_again(lambda: probe.raw_call(packed(command), 1, flags)) == repeated
