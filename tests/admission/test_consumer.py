"""The consumer of a stream, in its blocking and its awaited form: what is in a batch, when it is acknowledged, how the
work is shared, and how it ends.
"""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, Form, Shards, add, consumers, dead, depth, pending


@pytest.fixture(params=["sync", *LOOPS])
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    if request.param == "sync":
        yield Form(None)
        return
    with open_runner(request.param) as runner:
        yield Form(runner)


@pytest.fixture(params=[1, 16], ids=["1 shard", "16 shards"])
def stream(request: pytest.FixtureRequest, server: ValkeyServer) -> Iterator[Shards]:
    with override_settings(CACHES={"default": cache_setting(server)}):
        yield Shards(count=request.param)


@pytest.fixture
def single(server: ValkeyServer) -> Iterator[Shards]:
    """A stream of one shard."""
    with override_settings(CACHES={"default": cache_setting(server)}):
        yield Shards()


def make(stream: Shards, **options: Any) -> Any:
    from django_vcache.admission.consumer import Consumer

    return Consumer(stream, GROUP, **{"max_wait": 0.02, **options})


def numbers(entries: Any) -> list[int]:
    return [int(entry.payload) for entry in entries]


# Batches.


def test_every_entry_comes_once_and_is_gone_when_it_is_done(form: Form, server: ValkeyServer, stream: Shards) -> None:
    ids = add(server, stream, *range(300))
    consumer = make(stream, batch=64)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        assert 0 < len(batch) <= 64
        assert [*batch] == [batch[at] for at in range(len(batch))]
        seen.extend(batch)
        if len(seen) == 300:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(numbers(seen)) == list(range(300))
    assert {(entry.shard, entry.id) for entry in seen} == {(at % stream.count, id) for at, id in enumerate(ids)}
    assert all(entry.deliveries == 1 and entry.fields == {"org": b"7"} for entry in seen)
    for shard in range(stream.count):
        assert numbers(entry for entry in seen if entry.shard == shard) == list(range(300))[shard :: stream.count]
    assert depth(server, stream) == 0
    assert pending(server, stream) == []
    assert consumer.metrics() == {"delivered": 300, "redelivered": 0, "acknowledged": 300, "dead": 0, "outages": 0}


def test_a_batch_is_filled_from_one_busy_shard(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(100), shard=stream.count - 1)
    consumer = make(stream, batch=50, max_wait=60.0)
    sizes = []

    async def work(batch: Any) -> None:
        sizes.append(len(batch))
        if sum(sizes) == 100:
            consumer.stop()

    form.consume(consumer, work)
    assert sizes == [50, 50]


def test_a_batch_smaller_than_the_shards_holds_no_more_than_asked(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    add(server, stream, *range(40))
    consumer = make(stream, batch=3)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        assert len(batch) <= 3
        seen.extend(numbers(batch))
        if len(seen) == 40:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(seen) == list(range(40))
    assert depth(server, stream) == 0


def test_a_batch_gathers_what_comes_within_max_wait(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, 0)
    consumer = make(stream, batch=3, max_wait=60.0)
    seen: list[list[int]] = []

    def add_two_more() -> None:
        wait_until(lambda: pending(server, stream))
        add(server, stream, 1, 2)

    async def work(batch: Any) -> None:
        seen.append(sorted(numbers(batch)))
        consumer.stop()

    adding = threading.Thread(target=add_two_more)
    adding.start()
    form.consume(consumer, work)
    adding.join()
    assert seen == [[0, 1, 2]]


def test_a_batch_that_does_not_fill_is_handed_out_after_max_wait(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    add(server, stream, 1, 2)
    for max_wait in (0, 0.05):
        consumer = make(stream, batch=100, max_wait=max_wait)
        seen = []

        async def work(batch: Any, consumer: Any = consumer, seen: list[int] = seen) -> None:
            seen += numbers(batch)
            if len(seen) == 2:
                consumer.stop()

        form.consume(consumer, work)
        assert sorted(seen) == [1, 2]
        add(server, stream, 1, 2)


def test_a_consumer_that_waits_gets_what_is_written_to_any_shard(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    consumer = make(stream)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) < stream.count:
            threading.Thread(target=add, args=(server, stream, 1), kwargs={"shard": len(seen)}).start()
        else:
            consumer.stop()

    add(server, stream, 1, shard=0)
    form.consume(consumer, work)
    assert [entry.shard for entry in seen] == list(range(stream.count))


def test_entries_of_other_programs_are_taken_as_they_are(form: Form, server: ValkeyServer, single: Shards) -> None:
    server.execute("XADD", single.keys[0], "*", b"\xff\xfe", b"\x00", "text", "clé")
    consumer = make(single)

    async def work(batch: Any) -> None:
        assert batch[0].payload == b""
        assert batch[0].fields == {"\udcff\udcfe": b"\x00", "text": "clé".encode()}
        consumer.stop()

    form.consume(consumer, work)


# Acknowledging.


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


def test_a_batch_costs_one_round_trip_to_read_and_one_to_acknowledge(
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    size = 4 * stream.count
    add(server, stream, *range(size * 10))
    consumer = make(stream, batch=size)
    counts = []

    async def work(batch: Any) -> None:
        now = server.command_counts()
        counts.append((now["xreadgroup"], now["evalsha"]))
        if len(counts) == 9:
            consumer.stop()

    form.consume(consumer, work)
    steps = {(after[0] - before[0], after[1] - before[1]) for before, after in itertools.pairwise(counts[1:])}
    assert steps == {(1, 1)}


@pytest.mark.parametrize("leave", ["break", "raise"])
def test_a_loop_that_is_left_acknowledges_nothing_of_the_batch_in_hand(
    run: Any, server: ValkeyServer, stream: Shards, leave: str
) -> None:
    add(server, stream, *range(40))
    consumer = make(stream, batch=20, reclaim_after=60.0)

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
    assert sorted(row[0].decode() for row in pending(server, stream)) == sorted(entry.id for entry in first)
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


def test_only_what_is_acknowledged_in_so_many_words_is(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(32))
    consumer = make(stream, batch=32, reclaim_after=0.1)
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
    assert depth(server, stream) == 0


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
    form: Form, server: ValkeyServer, stream: Shards
) -> None:
    ids = add(server, stream, *range(32))
    consumer = make(stream, batch=32)

    async def work(batch: Any) -> None:
        bad = [entry for entry in batch if int(entry.payload) in (3, 20)]
        assert await form.say(batch, "reject", bad, reason="no\nsense " + "x" * 600) == 2
        assert await form.say(batch, "reject", bad) == 0
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, stream) == 0
    assert pending(server, stream) == []
    letters = sorted(dead(server, stream), key=lambda letter: int(letter["payload"]))
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


def test_a_handler_that_returns_has_its_batch_acknowledged(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(50))
    consumer = make(stream, batch=20)
    seen: list[int] = []

    async def handler(batch: Any) -> None:
        seen.extend(numbers(batch))
        if len(seen) == 50:
            consumer.stop()

    form.handle(consumer, handler)
    assert sorted(seen) == list(range(50))
    assert depth(server, stream) == 0


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


# Several consumers, and the end.


def test_two_consumers_share_the_work(run: Any, server: ValkeyServer, stream: Shards) -> None:
    """One in a thread, one in a task."""
    add(server, stream, *range(2000))
    both = [make(stream, batch=32), make(stream, batch=32)]
    seen: list[list[int]] = [[], []]

    def note(which: int, batch: Any) -> None:
        seen[which].extend(numbers(batch))
        if len(seen[0]) + len(seen[1]) == 2000:
            for consumer in both:
                consumer.stop()

    def blocking() -> None:
        for batch in both[0]:
            note(0, batch)

    async def awaited() -> None:
        async for batch in both[1]:
            note(1, batch)

    thread = threading.Thread(target=blocking)
    thread.start()
    run(awaited())
    thread.join()
    assert sorted(seen[0] + seen[1]) == list(range(2000))
    assert depth(server, stream) == 0
    assert both[0].name != both[1].name


def test_stop_ends_a_consumer_that_waits_and_leaves_no_trace_of_it(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards(count=3)
    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        for _ in range(3):
            consumer = make(stream, batch=5)

            def stop(consumer: Any = consumer) -> None:
                wait_until(lambda: [client for client in fresh_server.clients() if "b" in client["flags"]])
                consumer.stop()

            stopping = threading.Thread(target=stop)
            stopping.start()
            form.consume(consumer, None)  # type: ignore[arg-type]
            stopping.join()
            assert consumer.stopped
            assert consumers(fresh_server, stream) == set()
            # The shared one, and one that is kept for the next blocking command.
            assert len(fresh_server.clients()) == 2


def test_a_consumer_that_was_stopped_stays_so(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)
    consumer.stop()
    form.consume(consumer, None)  # type: ignore[arg-type]
    assert depth(server, single) == 1
    assert pending(server, single) == []


def test_stop_in_the_middle_of_a_batch_ends_after_it(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(64))
    consumer = make(stream, batch=16)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        assert not consumer.stopped
        consumer.stop()
        seen.extend(numbers(batch))

    form.consume(consumer, work)
    assert len(seen) == 16
    assert depth(server, stream) == 48
    assert pending(server, stream) == []


def test_the_handlers_of_signals_are_as_before_when_it_ends(form: Form, server: ValkeyServer, single: Shards) -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        add(server, single, 1)
        consumer = make(single)

        async def work(batch: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) is not mine
            consumer.stop()

        form.consume(consumer, work)
        assert signal.getsignal(signal.SIGTERM) is mine
        add(server, single, 1)
        other = make(single, signals=())

        async def unwatched(batch: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) is mine
            other.stop()

        form.consume(other, unwatched)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_consumer_on_another_thread_leaves_signals_alone(server: ValkeyServer, single: Shards) -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []
    add(server, single, 1)
    consumer = make(single)

    def blocking() -> None:
        for _ in consumer:
            during.append(signal.getsignal(signal.SIGTERM))
            consumer.stop()

    thread = threading.Thread(target=blocking)
    thread.start()
    thread.join()
    assert during == [before]


def test_one_consumer_is_for_one_loop_at_a_time(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)

    async def work(batch: Any) -> None:
        with pytest.raises(RuntimeError, match="is being iterated over"):
            next(iter(consumer))
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, single) == 0


# The server.


def test_a_cluster_is_read_shard_by_shard(form: Form) -> None:
    with ValkeyServer(cluster_enabled="yes") as node:
        node.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in node.execute("CLUSTER", "INFO"))
        stream = Shards(count=5)
        add(node, stream, *range(100))
        consumer = make(stream, batch=20, reclaim_after=0.1)
        seen: list[int] = []

        async def work(batch: Any) -> None:
            seen.extend(numbers(batch))
            if 7 in numbers(batch):
                await form.say(batch, "reject", [entry for entry in batch if entry.payload == b"7"])
            if len(seen) == 100:
                threading.Thread(target=add, args=(node, stream, 100), kwargs={"shard": 4}).start()
            if len(seen) == 101:
                consumer.stop()

        with override_settings(CACHES={"default": cache_setting(node)}):
            form.consume(consumer, work)
        assert sorted(seen) == list(range(101))
        assert depth(node, stream) == 0
        assert len(dead(node, stream)) == 1
        assert consumers(node, stream) == set()


def test_scripts_that_the_server_forgot_are_sent_again(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(64))
    consumer = make(stream, batch=16)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))
        server.execute("SCRIPT", "FLUSH")
        if len(seen) == 64:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(seen) == list(range(64))
    assert depth(server, stream) == 0


def test_a_server_out_of_memory_can_still_be_emptied(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards(count=2)
    add(fresh_server, stream, *range(20))
    for key in stream.keys:
        fresh_server.execute("XGROUP", "CREATE", key, GROUP, "0")
    fresh_server.execute("CONFIG", "SET", "maxmemory", 1)
    consumer = make(stream, batch=10)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))
        await form.say(batch, "reject", batch[:1])
        if len(seen) == 20:
            consumer.stop()

    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        form.consume(consumer, work)
    assert sorted(seen) == list(range(20))
    assert depth(fresh_server, stream) == 0
    assert len(dead(fresh_server, stream)) == 2


def test_what_waiting_does_not_mend_is_raised(form: Form, server: ValkeyServer, single: Shards) -> None:
    from django_vcache.exceptions import ConfigurationError, ResponseError

    server.execute("SET", single.keys[0], "a string")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        form.consume(make(single), None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="'elsewhere'"):
        form.consume(make(Shards(using="elsewhere")), None)  # type: ignore[arg-type]
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    with (
        override_settings(CACHES={"default": dummy}),
        pytest.raises(ConfigurationError, match="DummyCache, not django_vcache"),
    ):
        form.consume(make(single), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch": 0}, "batch must be a whole number of at least 1, not 0"),
        ({"batch": True}, "batch must be"),
        ({"batch": 2.5}, "batch must be"),
        ({"max_wait": -1}, "max_wait must be a number of seconds of at least 0, not -1"),
        ({"max_wait": float("nan")}, "max_wait must be"),
        ({"max_wait": "1"}, "max_wait must be"),
        ({"reclaim_after": 0}, "reclaim_after must be"),
        ({"max_deliveries": 0}, "max_deliveries must be"),
        ({"name": ""}, "name must be a text"),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense_are_value_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(Shards(), **options)


def test_a_group_needs_a_name_and_a_stream_its_keys() -> None:
    from django_vcache.admission.consumer import Consumer

    with pytest.raises(ValueError, match="group must be a text"):
        Consumer(Shards(), "")
    with pytest.raises(ValueError, match="one key a shard"):
        Consumer(Shards(count=0), GROUP)
