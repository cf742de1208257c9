"""A claim that is renewed in the middle of long work: `batch.extend()`."""

from __future__ import annotations

import os
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, Form, Helper, Shards, add, consumers, dead, depth, make, numbers, pending


def age(server: ValkeyServer, stream: Shards, entries: Any, owner: str) -> None:
    """As if they had been delivered an hour ago."""
    for entry in entries:
        key = stream.keys[entry.shard]
        server.execute("XCLAIM", key, GROUP, owner, 0, entry.id, "IDLE", 3_600_000, "JUSTID")


def test_what_is_extended_is_not_taken_over(form: Form, server: ValkeyServer, any_stream: Shards) -> None:
    add(server, any_stream, *range(20))
    consumer = make(any_stream, batch=20)
    taken: list[list[int]] = []

    def others() -> list[int]:
        """What another consumer gets now."""
        other = make(any_stream, batch=100, signals=())
        add(server, any_stream, 100)
        batch = next(iter(other))
        try:
            return sorted(numbers(batch))
        finally:
            batch.ack([entry for entry in batch if entry.payload == b"100"])

    async def work(batch: Any) -> None:
        age(server, any_stream, batch, consumer.name)
        assert await form.say(batch, "extend") == 20
        assert batch.pending == tuple(batch)
        assert all(idle < 3_600_000 and deliveries == 1 for _, _, idle, deliveries in pending(server, any_stream))
        helper = Helper(lambda: taken.append(others()))
        helper.start()
        helper.join()
        # Without it they are everybody's.
        age(server, any_stream, batch, consumer.name)
        helper = Helper(lambda: taken.append(others()))
        helper.start()
        helper.join()
        consumer.stop()

    form.consume(consumer, work)
    assert taken[0] == [100]
    assert set(taken[1]) & set(range(20))


def test_what_others_have_taken_over_is_theirs(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, *range(4))
    consumer = make(single)

    async def work(batch: Any) -> None:
        age(server, single, batch[:1], "other")
        server.execute("XACK", single.keys[0], GROUP, batch[1].id)
        assert await form.say(batch, "extend") == 2
        assert numbers(batch.pending) == [2, 3]
        # They are not acknowledged, nor rejected, by this one.
        assert await form.say(batch, "ack", batch[:1]) == 0
        assert await form.say(batch, "reject", batch[:1]) == 0
        assert await form.say(batch, "ack", batch[2:]) == 2
        assert await form.say(batch, "extend") == 0
        consumer.stop()

    form.consume(consumer, work)
    assert [row[1] for row in pending(server, single)] == [b"other"]
    assert dead(server, single) == []


@pytest.mark.parametrize("how", ["FLUSHALL", "XGROUP DESTROY"])
def test_of_what_was_deleted_nothing_is_left_to_extend(
    form: Form, server: ValkeyServer, single: Shards, how: str
) -> None:
    add(server, single, *range(2))
    consumer = make(single)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))
        if len(seen) > 2:
            consumer.stop()
            return
        server.execute(*([how] if how == "FLUSHALL" else [*how.split(), single.keys[0], GROUP]))
        assert await form.say(batch, "extend") == 0
        assert batch.pending == ()
        add(server, single, 2)

    form.consume(consumer, work)
    # The group was made again.
    assert seen[-1] == 2
    assert pending(server, single) == []


def test_a_cluster_is_asked_shard_by_shard(form: Form) -> None:
    with ValkeyServer(cluster_enabled="yes") as node:
        node.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in node.execute("CLUSTER", "INFO"))
        stream = Shards(count=3)
        add(node, stream, *range(9))
        consumer = make(stream, batch=9)
        seen: list[int] = []

        async def work(batch: Any) -> None:
            seen.extend(numbers(batch))
            age(node, stream, batch, consumer.name)
            assert await form.say(batch, "extend") == len(batch)
            assert all(idle < 3_600_000 for _, _, idle, _ in pending(node, stream))
            if len(seen) == 9:
                consumer.stop()

        with override_settings(CACHES={"default": cache_setting(node)}):
            form.consume(consumer, work)
        assert depth(node, stream) == 0
        assert consumers(node, stream) == set()


def test_an_outage_is_waited_for(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards()
    add(fresh_server, stream, 1)
    consumer = make(stream)

    async def work(batch: Any) -> None:
        fresh_server.execute("CONFIG", "SET", "min-replicas-to-write", 1)

        def mend() -> None:
            wait_until(lambda: consumer.metrics()["outages"] > 1)
            fresh_server.execute("CONFIG", "SET", "min-replicas-to-write", 0)

        helper = Helper(mend)
        helper.start()
        assert await form.say(batch, "extend") == 1
        helper.join()
        consumer.stop()

    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        form.consume(consumer, work)
    assert depth(fresh_server, stream) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_cannot_extend_its_parents_batch(server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)
    for batch in consumer:
        child = os.fork()
        if child == 0:
            try:
                batch.extend()
            except RuntimeError:
                os._exit(7)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        consumer.stop()
    assert depth(server, single) == 0
