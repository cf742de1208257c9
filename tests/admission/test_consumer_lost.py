"""What was delivered and did not arrive: it comes again and is not counted, and once it was handed out it counts like
anything else. Also what a task had collected when it was cancelled, which nobody was given.
"""

from __future__ import annotations

import asyncio
import functools
import signal
from typing import Any

import pytest
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, PATIENCE, Form, Helper, Shards, add, dead, depth, make, numbers, pending


class Left(Exception):
    """Leaves the loop."""


@pytest.fixture(autouse=True)
def slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may be under way for long."""
    from django_vcache.admission.consume import group

    monkeypatch.setattr(group, "_SLACK", 10_000)


@pytest.fixture
def long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A consumer waits for an entry until one comes."""
    from django_vcache.admission.consume import reading

    monkeypatch.setattr(reading, "WAIT", 60.0)


def lose(server: ValkeyServer, stream: Shards, consumer: Any, *payloads: int) -> None:
    """All in one step what a lost reply leaves: the entries are the consumer's, who waits and does not know it."""
    server = server.at(stream.keys[0])
    wait_until(lambda: server.info("clients")["blocked_clients"] == "1")
    server.execute("MULTI")
    for number in payloads:
        server.execute("XADD", stream.keys[0], "*", "payload", number)
    server.execute("XREADGROUP", "GROUP", GROUP, consumer.name, "STREAMS", stream.keys[0], ">")
    server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    assert server.execute("EXEC")[-1] > 0


def losing(server: ValkeyServer, stream: Shards, consumer: Any, *payloads: int) -> Helper:
    helper = Helper(functools.partial(lose, server, stream, consumer, *payloads), consumer.stop)
    helper.start()
    return helper


@pytest.mark.usefixtures("long_wait")
def test_entries_of_a_reply_that_was_lost_come_and_are_not_counted(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    consumer = make(single)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) == 4:
            consumer.stop()

    helper = losing(server, single, consumer, *range(4))
    form.consume(consumer, work)
    helper.join()
    assert numbers(seen) == [0, 1, 2, 3]
    assert {entry.deliveries for entry in seen} == {1}
    metrics = consumer.metrics()
    assert (metrics["delivered"], metrics["redelivered"], metrics["acknowledged"]) == (4, 0, 4)
    assert metrics["outages"] == 1
    assert depth(server, single) == 0


@pytest.mark.usefixtures("long_wait")
def test_what_came_after_a_lost_reply_and_failed_is_counted_like_anything_else(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    """The loop is left each time, and begun again with the same consumer."""
    consumer = make(single, max_deliveries=3)
    tries: list[tuple[list[int], int]] = []

    async def work(batch: Any) -> None:
        tries.append((numbers(batch), batch[0].deliveries))
        if 13 in numbers(batch):
            raise Left
        if 99 in numbers(batch):
            consumer.stop()

    helper = losing(server, single, consumer, 13, 14)
    for _ in range(3):
        with pytest.raises(Left):
            form.consume(consumer, work)
    helper.join()
    add(server, single, 99)
    form.consume(consumer, work)
    assert tries[0] == ([13, 14], 1)
    # It comes with fewer others, is a dead letter in the end, and the others and what is new come after it.
    assert [deliveries for batch, deliveries in tries if 13 in batch] == [1, 2, 3]
    assert tries[2][0] == [13]
    assert {number for batch, _ in tries[3:] for number in batch} >= {14, 99}
    assert [letter["payload"] for letter in dead(server, single)] == ["13"]
    assert pending(server, single) == []


@pytest.mark.usefixtures("long_wait")
def test_a_batch_that_came_after_a_lost_reply_and_was_broken_off_says_that_it_comes_again(
    server: ValkeyServer, single: Shards
) -> None:
    consumer = make(single)
    helper = losing(server, single, consumer, *range(3))
    deliveries = []
    for _ in range(2):
        for batch in consumer:
            deliveries.append([entry.deliveries for entry in batch])
            break
    helper.join()
    assert deliveries == [[1] * 3, [2] * 3]


@pytest.fixture
def second_read_fails(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The second read of entries is lost on its way back, though it was made."""
    from django_vcache import exceptions
    from django_vcache.admission.consume import reading

    reads: list[int] = []

    def send(commands: Any) -> Any:
        reads.append(1)
        replies = yield plain(commands)
        if len(reads) == 2:
            raise exceptions.ConnectionError("lost")
        return replies

    plain = reading.Send
    monkeypatch.setattr(reading, "Send", send)
    return reads


def test_a_batch_whose_second_read_was_lost_is_counted_when_it_fails(
    form: Form, server: ValkeyServer, stream: Shards, second_read_fails: list[int]
) -> None:
    """What the second read has delivered is not, though both were only just delivered."""
    add(server, stream, *range(6), shard=2)
    consumer = make(stream, batch=8, reclaim_after=0.05)
    seen: list[list[tuple[int, int]]] = []

    async def work(batch: Any) -> None:
        seen.append([(int(entry.payload), entry.deliveries) for entry in batch])
        if len(seen) == 1:
            await form.say(batch, "ack", [])
        if sum(map(len, seen)) == 8:
            consumer.stop()

    form.consume(consumer, work)
    assert len(second_read_fails) >= 2
    assert seen[:2] == [[(0, 1), (1, 1)], [(2, 1), (3, 1), (4, 1), (5, 1)]]
    assert sorted(each for batch in seen[2:] for each in batch) == [(0, 2), (1, 2)]
    assert depth(server, stream) == 0


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_cancelled_task_had_collected_is_not_counted(server: ValkeyServer, stream: Shards, loop: str) -> None:
    """Nobody was given it, so it must not be a dead letter."""
    add(server, stream, *range(6))
    consumer = make(stream, batch=60, max_wait=3600.0, reclaim_after=7200.0, max_deliveries=1)
    before = signal.getsignal(signal.SIGTERM)

    deliveries: list[int] = []

    async def consume() -> None:
        async for batch in consumer:
            deliveries.extend(entry.deliveries for entry in batch)
            if len(deliveries) == 6:
                consumer.stop()

    async def main() -> None:
        task = asyncio.ensure_future(consume())
        # They have arrived.
        await asyncio.to_thread(wait_until, lambda: consumer.metrics()["delivered"] == 6)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(pending(server, stream)) == 6
        await asyncio.wait_for(consume(), PATIENCE)

    with open_runner(loop) as runner:
        runner.run(main())
    assert deliveries == [1] * 6
    assert depth(server, stream) == 0
    assert dead(server, stream) == []
    assert signal.getsignal(signal.SIGTERM) is before
