"""The consumer of a stream, in its blocking and its awaited form: what is in a batch, how the work is shared, what the
server may be, and which arguments make no sense.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, PATIENCE, Form, Shards, add, consumers, dead, depth, make, numbers, pending


def test_every_entry_comes_once_and_is_gone_when_it_is_done(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    ids = add(server, any_stream, *range(300))
    consumer = make(any_stream, batch=64)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        assert 0 < len(batch) <= 64
        assert [*batch] == [batch[at] for at in range(len(batch))]
        seen.extend(batch)
        if len(seen) == 300:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(numbers(seen)) == list(range(300))
    assert {(entry.shard, entry.id) for entry in seen} == {(at % any_stream.count, id) for at, id in enumerate(ids)}
    assert all(entry.deliveries == 1 and entry.fields == {"org": b"7"} for entry in seen)
    for shard in range(any_stream.count):
        assert numbers(entry for entry in seen if entry.shard == shard) == list(range(300))[shard :: any_stream.count]
    assert depth(server, any_stream) == 0
    assert pending(server, any_stream) == []
    assert consumer.metrics() == {"delivered": 300, "redelivered": 0, "acknowledged": 300, "dead": 0, "outages": 0}


def test_a_batch_is_filled_from_one_busy_shard(form: Form, server: ValkeyServer, any_stream: Shards) -> None:
    add(server, any_stream, *range(100), shard=any_stream.count - 1)
    consumer = make(any_stream, batch=50, max_wait=60.0, reclaim_after=120.0)
    sizes = []

    async def work(batch: Any) -> None:
        sizes.append(len(batch))
        if sum(sizes) == 100:
            consumer.stop()

    form.consume(consumer, work)
    assert sizes == [50, 50]


def test_a_batch_smaller_than_the_shards_holds_no_more_than_asked(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    add(server, any_stream, *range(40))
    consumer = make(any_stream, batch=3)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        assert len(batch) <= 3
        # Nor does it hold any back for later.
        assert len(pending(server, any_stream)) == len(batch)
        seen.extend(numbers(batch))
        if len(seen) == 40:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(seen) == list(range(40))
    assert depth(server, any_stream) == 0


def test_waiting_for_all_shards_is_one_command(
    form: Form, server: ValkeyServer, any_stream: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission.consume import reading

    monkeypatch.setattr(reading, "WAIT", 0.01)
    consumer = make(any_stream)
    reads = counted(monkeypatch, reading.Reader, "_read", consumer, 5)
    before = server.command_counts().get("xreadgroup", 0)
    form.consume(consumer, None)  # type: ignore[arg-type]
    assert len(reads) == 5
    assert server.command_counts()["xreadgroup"] - before == 5 * server.parts(any_stream.keys)


def test_a_look_at_more_shards_than_fit_into_a_batch_asks_each_once(
    form: Form, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch, default_cache: None
) -> None:
    from django_vcache.admission.consume import consumer as module
    from django_vcache.admission.consume import reading

    monkeypatch.setattr(reading, "_POLL", (0.001, 0.001))
    stream = Shards(count=16)
    consumer = make(stream, batch=3)
    looks = counted(monkeypatch, module._Bell, "wait", consumer, 5)
    alooks = counted(monkeypatch, module._LoopBell, "wait", consumer, 5)
    before = server.command_counts().get("xreadgroup", 0)
    form.consume(consumer, None)  # type: ignore[arg-type]
    # Three, three, three, three, three and one; and a pause.
    assert len(looks) + len(alooks) == 5
    commands = sum(server.parts(stream.keys[first : first + 3]) for first in range(0, 16, 3))
    assert server.command_counts()["xreadgroup"] - before == 5 * commands


def counted(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, consumer: Any, enough: int) -> list[Any]:
    """The calls of a method so far; at so many of them the consumer is told to stop."""
    calls: list[Any] = []
    original = getattr(kind, method)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == enough:
            consumer.stop()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(kind, method, call)
    return calls


def test_a_batch_gathers_what_comes_within_max_wait(form: Form, server: ValkeyServer, any_stream: Shards) -> None:
    add(server, any_stream, 0)
    consumer = make(any_stream, batch=3, max_wait=60.0, reclaim_after=120.0)
    seen: list[list[int]] = []

    def add_two_more() -> None:
        wait_until(lambda: pending(server, any_stream))
        add(server, any_stream, 1, 2)

    async def work(batch: Any) -> None:
        seen.append(sorted(numbers(batch)))
        consumer.stop()

    adding = threading.Thread(target=add_two_more)
    adding.start()
    form.consume(consumer, work)
    adding.join()
    assert seen == [[0, 1, 2]]


def test_a_batch_that_does_not_fill_is_handed_out_after_max_wait(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    add(server, any_stream, 1, 2)
    for max_wait in (0, 0.05):
        consumer = make(any_stream, batch=100, max_wait=max_wait)
        seen = []

        async def work(batch: Any, consumer: Any = consumer, seen: list[int] = seen) -> None:
            seen += numbers(batch)
            if len(seen) == 2:
                consumer.stop()

        form.consume(consumer, work)
        assert sorted(seen) == [1, 2]
        add(server, any_stream, 1, 2)


def test_a_consumer_that_waits_gets_what_is_written_to_any_shard(
    form: Form, server: ValkeyServer, any_stream: Shards
) -> None:
    consumer = make(any_stream)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) < any_stream.count:
            threading.Thread(target=add, args=(server, any_stream, 1), kwargs={"shard": len(seen)}).start()
        else:
            consumer.stop()

    add(server, any_stream, 1, shard=0)
    form.consume(consumer, work)
    assert [entry.shard for entry in seen] == list(range(any_stream.count))


def test_entries_of_other_programs_are_taken_as_they_are(form: Form, server: ValkeyServer, single: Shards) -> None:
    server.execute("XADD", single.keys[0], "*", b"\xff\xfe", b"\x00", "text", "clé")
    consumer = make(single)

    async def work(batch: Any) -> None:
        assert batch[0].payload == b""
        assert batch[0].fields == {"\udcff\udcfe": b"\x00", "text": "clé".encode()}
        consumer.stop()

    form.consume(consumer, work)


def test_two_consumers_share_the_work(run: Any, server: ValkeyServer, any_stream: Shards) -> None:
    """One in a thread, one in a task."""
    add(server, any_stream, *range(2000))
    both = [make(any_stream, batch=32), make(any_stream, batch=32)]
    seen: list[list[int]] = [[], []]

    def note(which: int, batch: Any) -> None:
        seen[which].extend(numbers(batch))
        if len(seen[0]) + len(seen[1]) == 2000:
            for consumer in both:
                consumer.stop()

    # Neither goes on before the other has a batch too.
    has_one = [threading.Event(), threading.Event()]

    def blocking() -> None:
        for batch in both[0]:
            has_one[0].set()
            has_one[1].wait(PATIENCE)
            note(0, batch)

    async def awaited() -> None:
        async for batch in both[1]:
            has_one[1].set()
            await asyncio.to_thread(has_one[0].wait, PATIENCE)
            note(1, batch)

    thread = threading.Thread(target=blocking)
    thread.start()
    run(awaited())
    thread.join()
    assert all(seen)
    assert sorted(seen[0] + seen[1]) == list(range(2000))
    assert depth(server, any_stream) == 0
    assert both[0].name != both[1].name


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


def test_scripts_that_the_server_forgot_are_sent_again(form: Form, server: ValkeyServer, any_stream: Shards) -> None:
    add(server, any_stream, *range(64))
    consumer = make(any_stream, batch=16)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))
        server.execute("SCRIPT", "FLUSH")
        if len(seen) == 64:
            consumer.stop()

    form.consume(consumer, work)
    assert sorted(seen) == list(range(64))
    assert depth(server, any_stream) == 0


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
        ({"max_wait": 1.0, "reclaim_after": 1.9}, "max_wait is half of reclaim_after at the most"),
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
