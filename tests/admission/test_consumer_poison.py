"""Entries that no handler can process: they end as dead letters, alone, and the others live on."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from support.server import ValkeyServer
from support.streams import GROUP, Form, Shards, add, dead, depth, drain, make, numbers, pending, program


def test_an_entry_that_kills_its_consumers_ends_as_a_dead_letter_alone(server: ValkeyServer, stream: Shards) -> None:
    ids = add(server, stream, *range(24), shard=1)
    source = """
def work(batch):
    if any(entry.payload == b"13" for entry in batch):
        report([entry.deliveries for entry in batch])
        os.kill(os.getpid(), signal.SIGKILL)
    if any(entry.payload == b"last" for entry in batch):
        os.kill(os.getpid(), signal.SIGTERM)

report(consume(work, batch=24, max_deliveries=4, reclaim_after=0.05).metrics())
"""
    deaths = []
    for _ in range(4):
        with program("sync", 4, source, server) as victim:
            deaths.append(victim.report())
            assert victim.exit_code()[0] == -signal.SIGKILL
    # Fewer came with it each time, and in the end it was alone.
    assert deaths[0] == [1] * 24
    assert len(deaths[0]) > len(deaths[1]) > len(deaths[2]) > 1
    assert deaths[3] == [4]
    # New entries come after all that was left lying.
    add(server, stream, "last", shard=1)
    with program("sync", 4, source, server) as survivor:
        assert survivor.report()["dead"] == 1
        survivor.end()
    (letter,) = dead(server, stream)
    assert letter["payload"] == "13"
    assert letter["dead:id"] == ids[13]
    assert letter["dead:deliveries"] == "4"
    assert letter["dead:reason"].startswith("delivered 4 times and never acknowledged, last by ")
    assert depth(server, stream) == 0
    assert pending(server, stream) == []


def test_an_entry_that_no_handler_can_work_on_is_a_dead_letter_with_the_reason(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    ids = add(server, stream, *range(100))
    consumer = make(stream, batch=100, max_deliveries=3, reclaim_after=0.05)
    done: list[int] = []
    tries: list[int] = []

    async def handler(batch: Any) -> None:
        for entry in batch:
            if entry.payload == b"42":
                tries.append(len(batch))
                stop_when_all_is_tried()
                raise ArithmeticError("cannot count to 42")
        done.extend(numbers(batch))
        stop_when_all_is_tried()

    def stop_when_all_is_tried() -> None:
        if len(done) == 99 and len(tries) == 3:
            consumer.stop()

    form.handle(consumer, handler)
    assert sorted(done) == sorted(set(range(100)) - {42})
    assert tries[0] == 100
    assert tries[2] == 1
    (letter,) = dead(server, stream)
    assert letter["dead:id"] == ids[42]
    assert letter["dead:reason"] == "ArithmeticError: cannot count to 42"
    assert letter["dead:deliveries"] == "3"
    assert depth(server, stream) == 0
    assert pending(server, stream) == []


def _unprintable() -> Exception:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise AttributeError("no text")

    return Unprintable()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        # As `json.loads` makes it of `"\\ud800"`.
        (ValueError("unknown level \ud800"), r"ValueError: unknown level \ud800"),
        (_unprintable(), "Unprintable"),
        (ValueError("x" * 600), "ValueError: " + "x" * 488),
    ],
    ids=["surrogate", "unprintable", "long"],
)
def test_any_exception_is_a_reason(
    form: Form, server: ValkeyServer, single: Shards, error: Exception, reason: str
) -> None:
    add(server, single, 1)
    consumer = make(single, max_deliveries=1)

    async def handler(batch: Any) -> None:
        consumer.stop()
        raise error

    form.handle(consumer, handler)
    assert [letter["dead:reason"] for letter in dead(server, single)] == [reason]
    assert pending(server, single) == []


def test_any_text_is_a_reason_to_reject(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)

    async def work(batch: Any) -> None:
        consumer.stop()
        assert await form.say(batch, "reject", reason="half of \ud83d") == 1

    form.consume(consumer, work)
    assert [letter["dead:reason"] for letter in dead(server, single)] == [r"half of \ud83d"]


def test_without_a_cap_an_entry_is_delivered_for_ever(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, 1)
    consumer = make(stream, max_deliveries=None, reclaim_after=0.01)
    deliveries = []

    async def handler(batch: Any) -> None:
        deliveries.append(batch[0].deliveries)
        if len(deliveries) == 8:
            consumer.stop()
            return
        await form.say(batch, "ack", [])

    form.handle(consumer, handler)
    assert deliveries == [1, 2, 3, 4, 5, 6, 7, 8]
    assert dead(server, stream) == []


def test_an_entry_trimmed_away_while_pending_is_forgotten(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(4), shard=0)
    for key in stream.keys:
        server.execute("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
    server.execute("XREADGROUP", "GROUP", GROUP, "gone", "COUNT", 3, "STREAMS", stream.keys[0], ">")
    # Its deliveries are used up as well: there is nothing left to move.
    first, second, _ = pending(server, stream)
    server.execute("XCLAIM", stream.keys[0], GROUP, "gone", 0, first[0], "IDLE", 1000, "RETRYCOUNT", 9)
    server.execute("XDEL", stream.keys[0], first[0], second[0])
    seen = drain(form, stream, 2, reclaim_after=0.01)
    assert sorted(numbers(seen)) == [2, 3]
    assert pending(server, stream) == []
    assert dead(server, stream) == []


def test_dead_letters_of_one_group_leave_the_entry_to_the_other(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    add(server, stream, 1)
    for key in stream.keys:
        server.execute("XGROUP", "CREATE", key, "audit", "0", "MKSTREAM")
    consumer = make(stream)

    async def handler(batch: Any) -> None:
        await form.say(batch, "reject")
        consumer.stop()

    form.handle(consumer, handler)
    assert len(dead(server, stream)) == 1
    assert depth(server, stream) == 1
