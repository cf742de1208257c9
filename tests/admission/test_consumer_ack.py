"""What a consumer acknowledges, when, and what comes again because nobody did."""

from __future__ import annotations

import functools
import itertools
import signal
from typing import Any

import pytest
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer
from support.streams import GROUP, Form, Shards, add, dead, depth, make, numbers, pending


def test_a_batch_is_acknowledged_when_the_next_one_is_asked_for(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    add(server, single, *range(6))
    consumer = make(single, batch=2)
    seen = []

    async def work(batch: Any) -> None:
        seen.append(numbers(batch))
        assert [row[0].decode() for row in pending(server, single)] == [entry.id for entry in batch]
        assert depth(server, single) == 6 - 2 * (len(seen) - 1)
        if len(seen) == 3:
            consumer.stop()

    form.consume(consumer, work)
    assert seen == [[0, 1], [2, 3], [4, 5]]
    assert depth(server, single) == 0


@pytest.mark.parametrize("size", [64, 500])
def test_a_batch_costs_one_round_trip_to_read_and_one_to_acknowledge(
    form: Form, server: ValkeyServer, any_stream: Shards, size: int
) -> None:
    add(server, any_stream, *range(size * 10))
    consumer = make(any_stream, batch=size)
    counts = []

    async def work(batch: Any) -> None:
        # A batch that the shards cannot be asked for in equal parts is full without the rest.
        assert size - len(batch) < any_stream.count
        now = server.command_counts()
        counts.append((now["xreadgroup"], now["evalsha"]))
        if len(counts) == 9:
            consumer.stop()

    form.consume(consumer, work)
    steps = {(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(counts[1:])}
    parts = server.parts(any_stream.keys)
    assert steps == {(parts, parts)}


@pytest.mark.parametrize("leave", ["break", "raise"])
def test_a_loop_that_is_left_acknowledges_nothing_of_the_batch_in_hand(
    run: Any, server: ValkeyServer, any_stream: Shards, leave: str
) -> None:
    add(server, any_stream, *range(40))
    consumer = make(any_stream, batch=20, reclaim_after=60.0)

    class Left(Exception):
        pass

    def sync(count: int) -> list[Any]:
        for number, batch in enumerate(consumer, start=1):
            if number == count:
                if leave == "break":
                    break
                raise Left(batch)
        return list(batch)

    async def awaited(count: int) -> list[Any]:
        number = 0
        async for batch in consumer:
            number += 1
            if number == count:
                if leave == "break":
                    break
                raise Left(batch)
        return list(batch)

    def left(function: Any, *args: Any) -> list[Any]:
        try:
            found = function(*args)
            return run(found) if hasattr(found, "send") else found
        except Left as error:
            return list(error.args[0])

    first = left(sync, 2)
    assert sorted(row[0].decode() for row in pending(server, any_stream)) == sorted(entry.id for entry in first)
    again: list[Any] = []
    # What is iterated over again delivers it again, first of all, in smaller batches.
    while len(again) < len(first):
        again += left(awaited, 1)
        assert again[-1].deliveries >= 2
    assert {(entry.shard, entry.id) for entry in again} <= {(entry.shard, entry.id) for entry in first}


def test_a_block_acknowledges_at_its_end(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, *range(3))
    consumer = make(single)

    async def work(batch: Any) -> None:
        await form.within(batch, lambda: None)
        assert batch.pending == ()
        assert pending(server, single) == []
        assert depth(server, single) == 0
        consumer.stop()

    form.consume(consumer, work)


def test_a_block_that_raises_acknowledges_nothing_though_the_loop_goes_on(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    add(server, single, *range(4))
    consumer = make(single, batch=2)
    seen = []

    def fail() -> None:
        raise ArithmeticError("in the block")

    async def work(batch: Any) -> None:
        seen.append(numbers(batch))
        if len(seen) == 1:
            with pytest.raises(ArithmeticError):
                await form.within(batch, fail)
        else:
            consumer.stop()

    form.consume(consumer, work)
    assert seen == [[0, 1], [2, 3]]
    assert len(pending(server, single)) == 2
    assert depth(server, single) == 2


def test_only_what_is_acknowledged_in_so_many_words_is(form: Form, server: ValkeyServer, any_stream: Shards) -> None:
    add(server, any_stream, *range(32))
    consumer = make(any_stream, batch=32, reclaim_after=0.1)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) == 32:
            odd = [entry for entry in batch if int(entry.payload) % 2]
            assert await form.say(batch, "ack", odd) == 16
            assert await form.say(batch, "ack", odd) == 0
            assert len(batch.pending) == 16
        elif len(seen) == 48:
            consumer.stop()

    form.consume(consumer, work)
    again = seen[32:]
    assert sorted(numbers(again)) == list(range(0, 32, 2))
    assert {entry.deliveries for entry in again} == {2}
    assert depth(server, any_stream) == 0


def test_acknowledging_takes_ids_as_well(form: Form, server: ValkeyServer, single: Shards) -> None:
    ids = add(server, single, *range(4))
    consumer = make(single)

    async def work(batch: Any) -> None:
        assert await form.say(batch, "ack", iter(ids[:2])) == 2
        assert await form.say(batch, "ack", [ids[2], ids[2], batch[2]]) == 1
        assert [entry.id for entry in batch.pending] == ids[3:]
        for wrong in (["1-1"], [ids[3], "no id"]):
            with pytest.raises(ValueError, match="is not in this batch of 4 entries"):
                await form.say(batch, "ack", wrong)
        with pytest.raises(TypeError, match="not the string"):
            await form.say(batch, "ack", ids[3])
        assert await form.say(batch, "ack") == 1
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, single) == 0


def test_an_id_that_two_shards_have_is_not_guessed_at(form: Form, server: ValkeyServer, single: Shards) -> None:
    stream = Shards(count=2)
    for shard in range(2):
        server.execute("XADD", stream.keys[shard], "5-1", "payload", shard)
    consumer = make(stream, batch=10)

    async def work(batch: Any) -> None:
        assert len(batch) == 2
        with pytest.raises(ValueError, match="shards 0 and 1"):
            await form.say(batch, "ack", ["5-1"])
        await form.say(batch, "ack", [entry for entry in batch if entry.shard == 1])
        consumer.stop()

    form.consume(consumer, work)
    assert [server.execute("XLEN", key) for key in stream.keys] == [1, 0]


def test_rejected_entries_go_to_the_dead_letters_and_the_rest_is_acknowledged(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    ids = add(server, any_stream, *range(32))
    consumer = make(any_stream, batch=32)

    async def work(batch: Any) -> None:
        bad = [entry for entry in batch if int(entry.payload) in (3, 20)]
        assert await form.say(batch, "reject", bad, reason="no\nsense " + "x" * 600) == 2
        assert await form.say(batch, "reject", bad) == 0
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, any_stream) == 0
    assert pending(server, any_stream) == []
    letters = sorted(dead(server, any_stream), key=lambda letter: int(letter["payload"]))
    assert [letter["payload"] for letter in letters] == ["3", "20"]
    for letter in letters:
        assert letter["org"] == "7"
        assert letter["dead:id"] == ids[int(letter["payload"])]
        assert letter["dead:group"] == GROUP
        assert letter["dead:consumer"] == consumer.name
        assert letter["dead:deliveries"] == "1"
        assert int(letter["dead:at"]) >= int(letter["dead:id"].split("-")[0])
        assert letter["dead:reason"] == ("no\nsense " + "x" * 600)[:500]
    assert consumer.metrics()["dead"] == 2


def test_a_handler_that_returns_has_its_batch_acknowledged(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    add(server, any_stream, *range(50))
    consumer = make(any_stream, batch=20)
    seen: list[int] = []

    async def handler(batch: Any) -> None:
        seen.extend(numbers(batch))
        if len(seen) == 50:
            consumer.stop()

    form.handle(consumer, handler)
    assert sorted(seen) == list(range(50))
    assert depth(server, any_stream) == 0


def test_a_handler_that_raises_is_logged_and_has_its_batch_delivered_again(
    form: Form, server: ValkeyServer, single: Shards, caplog: pytest.LogCaptureFixture
) -> None:
    add(server, single, *range(10))
    consumer = make(single, batch=10, reclaim_after=0.05)
    seen: list[Any] = []

    async def handler(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) == 10:
            # What it has said before it fails holds.
            await form.say(batch, "ack", batch[:4])
            raise ArithmeticError("in the handler")
        if len(seen) == 16:
            consumer.stop()

    form.handle(consumer, handler)
    assert numbers(seen[10:]) == [4, 5, 6, 7, 8, 9]
    assert {entry.deliveries for entry in seen[10:]} == {2}
    assert depth(server, single) == 0
    (record,) = [record for record in caplog.records if "the handler failed" in record.message]
    assert "on 6 entries" in record.message
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ArithmeticError)


def test_an_entry_is_deleted_when_every_group_is_done_with_it(form: Form, server: ValkeyServer, single: Shards) -> None:
    from django_vcache.admission.consumer import Consumer

    add(server, single, *range(6))
    server.execute("XGROUP", "CREATE", single.keys[0], "audit", "0")
    billing = make(single)

    async def work(batch: Any) -> None:
        billing.stop()

    form.consume(billing, work)
    assert depth(server, single) == 6
    audit = Consumer(single, "audit", max_wait=0.02)

    async def audited(batch: Any) -> None:
        # Billing has nothing more to do with any of them; of these three, audit has.
        assert await form.say(batch, "ack", batch[3:]) == 3
        assert depth(server, single) == 3
        await form.say(batch, "ack")
        audit.stop()

    form.consume(audit, audited)
    assert depth(server, single) == 0


def test_delete_false_leaves_the_entries(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, *range(6))
    consumer = make(single, delete=False)

    async def work(batch: Any) -> None:
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, single) == 6
    assert pending(server, single) == []


class _Called:
    async def __call__(self, batch: Any) -> None:
        raise AssertionError("nobody awaits it")


async def _not_awaited(batch: Any) -> None:
    raise AssertionError("nobody awaits it")


def _generator(batch: Any) -> Any:
    raise AssertionError("nobody iterates over it")
    yield


async def _async_generator(batch: Any) -> Any:
    raise AssertionError("nobody iterates over it")
    yield


@pytest.mark.parametrize(
    "handler",
    [
        _not_awaited,
        functools.partial(_not_awaited),
        lambda batch: _not_awaited(batch),
        _Called(),
        _generator,
        _async_generator,
    ],
    ids=["coroutine function", "partial", "lambda", "object", "generator", "async generator"],
)
def test_run_does_not_take_for_done_what_nobody_has_awaited(server: ValkeyServer, single: Shards, handler: Any) -> None:
    add(server, single, 1)
    consumer = make(single, max_deliveries=1)
    with pytest.raises(TypeError, match=r"arun\(\)"):
        consumer.run(handler)
    assert depth(server, single) == 1
    assert dead(server, single) == []


def test_run_refuses_a_coroutine_function_before_anything_is_delivered(server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    with pytest.raises(TypeError, match=r"does not await it: give it to arun\(\)"):
        make(single).run(_not_awaited)
    assert pending(server, single) == []


@pytest.mark.parametrize("loop", LOOPS)
def test_arun_does_not_take_a_plain_function_for_a_failure_of_the_entries(
    server: ValkeyServer, single: Shards, loop: str
) -> None:
    add(server, single, 1)
    consumer = make(single, max_deliveries=1)
    with (
        open_runner(loop) as runner,
        pytest.raises(TypeError, match=r"returned 7, which cannot be awaited: .* run\(\)"),
    ):
        runner.run(consumer.arun(lambda batch: 7))
    assert len(pending(server, single)) == 1
    assert dead(server, single) == []


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_is_left_may_be_begun_again_at_once(server: ValkeyServer, single: Shards, loop: str) -> None:
    add(server, single, 1)
    consumer = make(single)
    before = signal.getsignal(signal.SIGTERM)
    tries = []

    async def main() -> None:
        while not consumer.stopped:
            try:
                async for batch in consumer:
                    tries.append(batch[0].deliveries)
                    if len(tries) < 3:
                        raise OSError("cannot save")
                    consumer.stop()
            except OSError:
                assert signal.getsignal(signal.SIGTERM) is before

    with open_runner(loop) as runner:
        runner.run(main())
    assert tries == [1, 2, 3]
    assert depth(server, single) == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("how", ["FLUSHALL", "XGROUP DESTROY"])
def test_rejecting_what_was_deleted_moves_nothing(form: Form, server: ValkeyServer, single: Shards, how: str) -> None:
    add(server, single, 1)
    consumer = make(single)

    async def work(batch: Any) -> None:
        server.execute(*([how] if how == "FLUSHALL" else [*how.split(), single.keys[0], GROUP]))
        assert await form.say(batch, "reject") == 0
        consumer.stop()

    form.consume(consumer, work)
    assert dead(server, single) == []
