"""Groups of a stream that are to come, and groups that are over: what is kept for them, and what is not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, Form, Shards, add, depth, drain

events = Shards("events", 3)


@pytest.fixture(autouse=True)
def project(server: ValkeyServer) -> Iterator[None]:
    with override_settings(CACHES={"default": cache_setting(server)}, INSTALLED_APPS=["django_vcache"]):
        get_commands.cache_clear()
        yield
    get_commands.cache_clear()


def manage(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(
        "vcache_stream", name, "--shards=3", "--prefix=test", "--noinput", *arguments, stdout=out, no_color=True
    )
    return out.getvalue()


def consume(group: str, count: int, **options: Any) -> list[int]:
    """A consumer of a group that acknowledges so many entries."""
    from django_vcache.admission.consumer import Consumer

    consumer = Consumer(events, group, max_wait=0.0, signals=(), **options)
    seen: list[int] = []
    for batch in consumer:
        seen += (int(entry.payload) for entry in batch)
        if len(seen) >= count:
            consumer.stop()
    return sorted(seen)


def test_a_group_that_joins_late_gets_what_the_others_have_not_acknowledged(server: ValkeyServer) -> None:
    add(server, events, *range(6))
    assert consume(GROUP, 6) == list(range(6))
    add(server, events, *range(6, 9))
    assert consume("audit", 3) == [6, 7, 8]


def test_a_group_that_was_created_ahead_gets_every_entry(server: ValkeyServer) -> None:
    assert manage("events", "--create-group", "audit") == "group audit of events created\n"
    add(server, events, *range(6))
    assert consume(GROUP, 6) == list(range(6))
    assert depth(server, events) == 6
    assert manage("events", "--create-group", "audit") == "group audit of events was there already\n"
    assert consume("audit", 6) == list(range(6))
    assert depth(server, events) == 0


def test_a_group_is_created_where_it_is_missing_and_told_so(run: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    server.execute("XGROUP", "CREATE", events.keys[1], "audit", "$", "MKSTREAM")
    assert run(streams.acreate_group(events, "audit")) is True
    assert streams.create_group(events, "audit") is False
    assert [group.name for group in streams.state(events).groups] == ["audit"]
    told = json.loads(manage("events", "--create-group", "billing", "--json"))
    assert told == {"stream": "events", "group": "billing", "created": True}
    for wrong in ("", None, 3):
        with pytest.raises(ValueError, match="at least one letter, not"):
            streams.create_group(events, wrong)  # type: ignore[arg-type]


def test_a_group_is_not_created_where_a_key_is_no_stream(server: ValkeyServer) -> None:
    server.execute("SET", events.keys[1], "a string")
    with pytest.raises(CommandError, match="WRONGTYPE"):
        manage("events", "--create-group", "audit")


def test_what_was_kept_for_a_group_is_trimmed_also_after_the_group_was_deleted(run: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    streams.create_group(events, "forgotten")
    add(server, events, *range(9))
    assert consume(GROUP, 9) == list(range(9))
    assert manage("events", "--delete-group", "forgotten") == "group forgotten of events deleted, and 0 entries\n"
    add(server, events, *range(9, 12))
    assert depth(server, events) == 12
    assert manage("events", "--trim") == "9 entries of events deleted\n"
    assert json.loads(manage("events", "--trim", "--json")) == {"stream": "events", "entries_deleted": 0}
    assert run(streams.atrim(events)) == 0
    assert [group.name for group in streams.state(events).groups] == [GROUP]
    assert consume(GROUP, 3) == [9, 10, 11]


def test_nothing_is_trimmed_of_a_stream_without_groups(server: ValkeyServer) -> None:
    assert manage("events", "--trim") == "0 entries of events deleted\n"
    add(server, events, *range(3))
    assert manage("events", "--trim") == "0 entries of events deleted\n"
    assert depth(server, events) == 3


def test_a_cluster_is_asked_shard_by_shard() -> None:
    from django_vcache.admission import streams

    with ValkeyServer(cluster_enabled="yes") as node:
        node.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in node.execute("CLUSTER", "INFO"))
        with override_settings(CACHES={"default": cache_setting(node)}):
            streams.create_group(events, "audit")
            add(node, events, *range(6))
            state = streams.state(events)
            assert (state.depth, [(group.name, group.lag) for group in state.groups]) == (6, [("audit", 6)])
            assert len(drain(Form(None), events, 6)) == 6
            assert streams.delete_group(events, "audit", trim=True) == 6
            assert streams.state(events).depth == 0


def test_a_group_is_deleted_without_what_was_kept_for_it(run: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    add(server, events, *range(6))
    for key in events.keys:
        for group in ("first", "second"):
            server.execute("XGROUP", "CREATE", key, group, "0")
    assert manage("events", "--delete-group", "first") == "group first of events deleted, and 0 entries\n"
    assert [group.name for group in streams.state(events).groups] == ["second"]
    assert run(streams.adelete_group(events, "second")) == 0
    assert streams.state(events).groups == []
    assert depth(server, events) == 6
    with pytest.raises(ValueError, match="has no group 'second'"):
        run(streams.adelete_group(events, "second", trim=True))


def test_a_group_that_nobody_reads_is_deleted_with_what_was_kept_for_it(server: ValkeyServer) -> None:
    from django_vcache.admission.consumer import Consumer

    add(server, events, *range(6))
    for key in events.keys:
        server.execute("XGROUP", "CREATE", key, "forgotten", "0")
    consumer = Consumer(events, GROUP, max_wait=0.0)
    seen = 0
    for batch in consumer:
        seen += len(batch)
        if seen == 6:
            consumer.stop()
    add(server, events, 6)
    assert depth(server, events) == 7
    with pytest.raises(CommandError, match="has no group 'unknown'"):
        manage("events", "--delete-group", "unknown")
    assert manage("events", "--delete-group", "forgotten", "--trim") == (
        "group forgotten of events deleted, and 6 entries\n"
    )
    assert depth(server, events) == 1


def test_what_others_have_acknowledged_goes_with_the_group_whatever_is_pending(run: Any, server: ValkeyServer) -> None:
    """Acknowledged entries lie before, between and behind what is pending for the groups that stay."""
    from django_vcache.admission import streams

    add(server, events, *range(500), shard=0)
    key = events.keys[0]
    ids = [id for id, _ in server.execute("XRANGE", key, "-", "+")]
    server.execute("XGROUP", "CREATE", key, "forgotten", "0")
    for group, read, wanted in [("one", 400, {3, 150, 399}), ("two", 350, {3, 270})]:
        server.execute("XGROUP", "CREATE", key, group, "0")
        server.execute("XREADGROUP", "GROUP", group, "c", "COUNT", read, "STREAMS", key, ">")
        server.execute("XACK", key, group, *(ids[at] for at in range(read) if at not in wanted))
    kept = [3, 150, 270, *range(350, 500)]
    assert run(streams.adelete_group(events, "forgotten", trim=True)) == 500 - len(kept)
    assert [id for id, _ in server.execute("XRANGE", key, "-", "+")] == [ids[at] for at in kept]
    assert [group.name for group in streams.state(events).groups] == ["one", "two"]
    assert streams.delete_group(events, "two", trim=True) == len(kept) - len([3, 150, 399, *range(400, 500)])
    # Nobody reads it any more.
    assert streams.delete_group(events, "one", trim=True) == 0
    assert depth(server, events) == 103
