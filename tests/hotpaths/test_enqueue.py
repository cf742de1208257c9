"""enqueue(): an entry on a stream with exactly the bytes that were given, its id in return, and trimming
to about the length asked for.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.server import ValkeyServer

PAYLOADS = [b"", b"x", bytes(range(256)), b"\r\n$5\r\n", b"x" * 1_000_000, "", "text", "clé 🔑", "\0"]


@pytest.mark.parametrize("payload", PAYLOADS, ids=[f"{type(p).__name__}-{len(p)}-{n}" for n, p in enumerate(PAYLOADS)])
def test_the_entry_holds_exactly_the_payload(hot: Any, server: ValkeyServer, payload: bytes | str) -> None:
    entry = hot.enqueue("events", payload)
    assert type(entry) is str
    expected = payload if isinstance(payload, bytes) else payload.encode()
    assert server.execute("XRANGE", "events", "-", "+") == [[entry.encode(), [b"payload", expected]]]


def test_a_bytearray_is_a_payload_too(hot: Any, server: ValkeyServer) -> None:
    entry = hot.enqueue("events", bytearray(b"mutable"))
    assert server.execute("XRANGE", "events", entry, entry) == [[entry.encode(), [b"payload", b"mutable"]]]


def test_ids_rise_and_entries_stand_in_order(hot: Any, server: ValkeyServer) -> None:
    ids = [hot.enqueue("events", str(number)) for number in range(50)]
    entries = server.execute("XRANGE", "events", "-", "+")
    assert [entry[0].decode() for entry in entries] == ids
    assert [entry[1][1] for entry in entries] == [str(number).encode() for number in range(50)]
    assert len(set(ids)) == 50


def test_tasks_and_threads_write_every_entry_once(run: Any, default_alias: None, server: ValkeyServer) -> None:
    from django_vcache import hotpaths

    ids: list[str] = []

    def thread(name: int) -> None:
        ids.extend(hotpaths.enqueue("events", f"t{name}-{number}") for number in range(100))

    async def main() -> None:
        threads = [threading.Thread(target=thread, args=(name,)) for name in range(4)]
        for each in threads:
            each.start()
        ids.extend(await asyncio.gather(*(hotpaths.aenqueue("events", f"a-{number}") for number in range(600))))
        await asyncio.to_thread(lambda: [each.join() for each in threads])

    run(main())
    entries = server.execute("XRANGE", "events", "-", "+")
    assert {entry[0].decode() for entry in entries} == set(ids)
    payloads = {entry[1][1].decode() for entry in entries}
    assert payloads == {f"t{t}-{n}" for t in range(4) for n in range(100)} | {f"a-{n}" for n in range(600)}
    assert len(entries) == 1000


def test_maxlen_trims_to_about_that_length(hot: Any, server: ValkeyServer) -> None:
    for number in range(1000):
        last = hot.enqueue("events", str(number), maxlen=100)
    # The server drops whole nodes, of 100 entries each by default.
    assert 100 <= server.execute("XLEN", "events") <= 200
    assert server.execute("XREVRANGE", "events", "+", "-", "COUNT", 1)[0][0].decode() == last


def test_without_maxlen_a_stream_grows(hot: Any, server: ValkeyServer) -> None:
    for _ in range(300):
        hot.enqueue("events", "x")
    assert server.execute("XLEN", "events") == 300


def test_arguments_go_by_position_and_by_name(hot: Any, server: ValkeyServer) -> None:
    hot.enqueue("a", b"1", 10)
    hot.enqueue("a", payload=b"2", maxlen=10)
    hot.enqueue(payload="3", stream="a")
    hot.enqueue("a", "4", maxlen=None)
    assert [entry[1][1] for entry in server.execute("XRANGE", "a", "-", "+")] == [b"1", b"2", b"3", b"4"]


def test_a_key_of_another_type_is_the_servers_error(hot: Any, server: ValkeyServer) -> None:
    from django_vcache.exceptions import ResponseError

    server.execute("SET", "events", "a string")
    with pytest.raises(ResponseError, match="WRONGTYPE") as caught:
        hot.enqueue("events", b"x")
    assert caught.value.code == "WRONGTYPE"
    assert server.execute("GET", "events") == b"a string"


def test_an_empty_name_is_a_value_error(hot: Any, server: ValkeyServer) -> None:
    with pytest.raises(ValueError, match="name is empty"):
        hot.enqueue("", b"x")
    assert server.keys() == []


@pytest.mark.parametrize(
    "args", [("s",), ("s", 5), ("s", None), (b"s", b"x"), ("s", b"x", "10"), ("s", b"x", 1.5)], ids=str
)
def test_arguments_of_the_wrong_type_are_a_type_error(hot: Any, server: ValkeyServer, args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        hot.enqueue(*args)
    assert server.keys() == []


@pytest.mark.parametrize("maxlen", [-1, 2**64])
def test_a_length_that_is_none_is_an_error(hot: Any, server: ValkeyServer, maxlen: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        hot.enqueue("events", b"x", maxlen)
    assert server.keys() == []
