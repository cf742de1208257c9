"""``manage.py vcache_stream`` and the functions behind it: the state of streams and their readers, dead letters with
their reasons, and dead letters moved back.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.streams import GROUP, Shards, add, dead, depth, pending

shop = SimpleNamespace(
    gate=SimpleNamespace(stream=Shards("orders", 2)), gate_without=SimpleNamespace(stream=None), one=1
)
events = Shards("events", 3)
PATH = __name__


@pytest.fixture(autouse=True)
def project(server: ValkeyServer) -> Iterator[None]:
    with override_settings(
        CACHES={"default": cache_setting(server)},
        INSTALLED_APPS=["django_vcache"],
        VCACHE={"STREAMS": [f"{PATH}.events"], "GATES": [f"{PATH}.gate", f"{PATH}.gate_without"]},
    ):
        get_commands.cache_clear()
        yield
    get_commands.cache_clear()


gate, gate_without, number = shop.gate, shop.gate_without, shop.one


def manage(*arguments: str) -> str:
    out = StringIO()
    call_command("vcache_stream", *arguments, stdout=out, no_color=True)
    return out.getvalue()


def manage_json(*arguments: str) -> Any:
    return json.loads(manage(*arguments, "--json"))


def bury(server: ValkeyServer, stream: Shards, *payloads: str | int, reason: str = "no sense") -> None:
    """Entries of every shard that a consumer rejects."""
    from django_vcache.admission.consumer import Consumer

    add(server, stream, *payloads)
    consumer = Consumer(stream, GROUP, name="worker", max_wait=0.0, signals=())
    done = 0
    for batch in consumer:
        done += batch.reject(reason=reason)
        if done == len(payloads):
            consumer.stop()


def read(server: ValkeyServer, stream: Shards, consumer: str, count: int, group: str = GROUP) -> None:
    for key in stream.keys:
        server.execute("XREADGROUP", "GROUP", group, consumer, "COUNT", count, "STREAMS", key, ">")


def test_the_table_shows_depth_groups_consumers_pending_lag_and_dead_letters(server: ValkeyServer) -> None:
    bury(server, events, *range(5))
    for key in events.keys:
        server.execute("XGROUP", "CREATE", key, "audit", "0")
    add(server, events, *range(30))
    read(server, events, "worker-1", 2)
    read(server, events, "worker-2", 3)
    lines = [line.split() for line in manage("events").splitlines()]
    assert lines[0] == ["events", "(3", "shards,", "cache", "alias", "default)"]
    assert lines[1] == ["30", "entries,", "5", "dead", "letters"]
    assert lines[2] == ["GROUP", "PENDING", "LAG", "CONSUMER", "PENDING", "IDLE"]
    assert lines[3] == ["audit", "0", "30"]
    assert lines[4][:5] == [GROUP, "15", "15", "worker-1", "6"]
    assert lines[5][:2] == ["worker-2", "9"]
    assert lines[5][-1] == "s"


def test_json_has_the_same(server: ValkeyServer) -> None:
    bury(server, events, 1)
    add(server, events, *range(30))
    read(server, events, "worker-1", 2)
    (state,) = manage_json("events")
    assert state["groups"][0]["consumers"][0].pop("idle") >= 0
    assert state == {
        "name": "events",
        "using": "default",
        "shards": 3,
        "exists": True,
        "depth": 30,
        "dead": 1,
        "groups": [
            {"name": GROUP, "pending": 6, "lag": 24, "consumers": [{"name": "worker-1", "pending": 6}]},
        ],
    }


def test_lag_is_exact_while_a_consumer_works(server: ValkeyServer) -> None:
    """Entries are deleted behind it, which must not confuse the server's count."""
    from django_vcache.admission import streams
    from django_vcache.admission.consumer import Consumer

    add(server, events, *range(90))
    consumer = Consumer(events, GROUP, batch=30, max_wait=0.0)
    lags = []
    for _ in consumer:
        lags.append([group.lag for group in streams.state(events).groups])
        if len(lags) == 3:
            consumer.stop()
    assert lags == [[60], [30], [0]]


def test_a_lag_that_the_server_does_not_know_is_a_question_mark(server: ValkeyServer) -> None:
    stream = Shards("orders", 2)
    ids = add(server, stream, *range(6))
    for key in stream.keys:
        server.execute("XGROUP", "CREATE", key, GROUP, "0")
    read(server, stream, "worker", 1)
    server.execute("XDEL", stream.keys[0], ids[4])
    assert manage_json("orders")[0]["groups"][0]["lag"] is None
    assert f"{GROUP}        2    ?  worker" in manage("orders")


def test_without_an_argument_it_shows_all_that_the_settings_name(server: ValkeyServer) -> None:
    add(server, events, 1)
    assert [state["name"] for state in manage_json()] == ["events", "orders"]
    text = manage()
    assert "events (3 shards, cache alias default)" in text
    assert "orders (2 shards, cache alias default)" in text
    assert "Nothing is stored under test:{v00}:s:orders yet" in text


def test_a_stream_named_twice_is_shown_once() -> None:
    with override_settings(VCACHE={"STREAMS": [f"{PATH}.events", f"{PATH}.events"]}):
        assert len(manage_json()) == 1


def test_a_dotted_path_is_a_stream_or_a_gate(server: ValkeyServer) -> None:
    with override_settings(VCACHE={}):
        assert [state["name"] for state in manage_json(f"{PATH}.events")] == ["events"]
        assert [state["name"] for state in manage_json(f"{PATH}.gate")] == ["orders"]


def test_a_name_with_shards_and_prefix_is_a_stream_of_no_code(server: ValkeyServer) -> None:
    for shard in ("00", "01"):
        server.execute("XADD", f"my:app:{{v{shard}}}:s:other", "*", "payload", 1)
    (state,) = manage_json("other", "--shards", "2", "--prefix", "my:app")
    assert (state["depth"], state["shards"], state["exists"]) == (2, 2, True)
    assert "--shards, --prefix and --using say where else" in manage("other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.such.stream"], "'no.such.stream' cannot be imported as a Stream or a Gate"),
        ([f"{PATH}.number"], "is no Stream and no Gate: int has no 'name'"),
        ([f"{PATH}.gate_without"], "has no stream"),
        (["a b"], "'a b' is no stream's name"),
        (["other", "--shards", "0"], "shards is 0"),
        (["other", "--prefix", "a{b"], "'a{b' is no prefix"),
        (["other", "--using", "elsewhere"], "'elsewhere'"),
        (["--shards", "2"], "--shards goes with the name of a stream"),
        (["events", "--dead", "--limit", "0"], "--limit is 0"),
        (["--requeue", "all"], "say which stream's dead letters to move: events, orders"),
        (["events", "--requeue", "all", "1-1"], "'all' alone"),
        (["events", "--requeue", "x"], "'x' is no id of a dead letter"),
        (["events", "--requeue", "1-1"], "has no dead letter '1-1'"),
        (["events", "--requeue", "3/1-1"], "has no shard 3, only 0 to 2"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_an_error_that_says_why(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=None) as caught:
        manage(*arguments)
    assert message in str(caught.value)


def test_no_stream_at_all_is_an_error() -> None:
    with override_settings(VCACHE={}), pytest.raises(CommandError, match="no stream is given"):
        manage()


def test_an_error_of_the_server_is_one_of_the_command(server: ValkeyServer) -> None:
    server.execute("SET", events.keys[1], "a string")
    with pytest.raises(CommandError, match="WRONGTYPE"):
        manage("events")


def test_dead_lists_them_with_their_reasons(server: ValkeyServer) -> None:
    bury(server, events, "a", "bb", "ccc", reason="no\x1b[31m sense\nat all")
    lines = manage("events", "--dead").splitlines()
    assert lines[0] == "events: 3 dead letters"
    assert lines[1].split() == ["ID", "AT", "(UTC)", "GROUP", "DELIVERIES", "ENTRY", "BYTES", "REASON"]
    rows = [line.split() for line in lines[2:]]
    assert {row[0].split("/")[0] for row in rows} == {"0", "1", "2"}
    assert all(row[3:5] == [GROUP, "1"] for row in rows)
    assert sorted(row[6] for row in rows) == ["1", "2", "3"]
    assert all(line.endswith("no [31m sense at all") for line in lines[2:])
    assert manage("events", "--dead", "--limit", "2").startswith("events: 3 dead letters, the oldest 2\n")


def test_dead_as_json_has_the_payloads(server: ValkeyServer) -> None:
    bury(server, events, "clé")
    server.execute("XADD", events.dead_keys[2], "*", "payload", b"\xff\x00", b"\xfe", b"\xfd")
    letter, other = manage_json("events", "--dead")
    (kept,) = [each for each in dead(server, Shards("events", 1))]
    assert letter.pop("id").startswith("0/")
    assert letter.pop("at")[:4].isdecimal()
    assert letter == {
        "stream": "events",
        "shard": 0,
        "entry": kept["dead:id"],
        "group": GROUP,
        "consumer": "worker",
        "deliveries": 1,
        "reason": "no sense",
        "fields": {"org": "7"},
        "payload": "clé",
    }
    # Somebody else has put this one there.
    assert base64.b64decode(other["payload_base64"]) == b"\xff\x00"
    assert (other["at"], other["entry"], other["deliveries"]) == (None, "", 0)


def test_requeue_moves_one_back_as_it_was(server: ValkeyServer) -> None:
    bury(server, events, "a", "b", "c")
    chosen = next(letter for letter in manage_json("events", "--dead") if letter["payload"] == "b")
    assert manage("events", "--requeue", chosen["id"]) == "1 dead letter moved back to events\n"
    assert depth(server, events) == 1
    (entry,) = server.execute("XRANGE", events.keys[1], "-", "+")
    assert entry[1] == [b"payload", b"b", b"org", b"7"]
    assert {letter["payload"] for letter in dead(server, events)} == {"a", "c"}


def test_requeue_all_moves_them_all_and_they_are_delivered(server: ValkeyServer) -> None:
    from django_vcache.admission.consumer import Consumer

    bury(server, events, *range(350))
    assert manage_json("events", "--requeue", "all") == {"stream": "events", "requeued": 350}
    assert dead(server, events) == []
    consumer = Consumer(events, GROUP, max_wait=0.0)
    seen: list[Any] = []
    for batch in consumer:
        seen += batch
        if len(seen) == 350:
            consumer.stop()
    assert sorted(int(entry.payload) for entry in seen) == list(range(350))
    assert {entry.deliveries for entry in seen} == {1}
    assert manage_json("events", "--requeue", "all")["requeued"] == 0


def test_requeue_moves_nothing_when_one_of_the_ids_is_wrong(server: ValkeyServer) -> None:
    bury(server, events, "a", "b")
    right = manage_json("events", "--dead")[0]["id"]
    with pytest.raises(CommandError, match="has no dead letter '5-5'"):
        manage("events", "--requeue", right, "5-5")
    assert len(dead(server, events)) == 2
    assert depth(server, events) == 0


def test_an_id_that_two_shards_have_must_be_told_apart(server: ValkeyServer) -> None:
    for key in events.dead_keys[:2]:
        server.execute("XADD", key, "5-5", "payload", key[-6:])
    with pytest.raises(CommandError, match="say 0/5-5 or 1/5-5"):
        manage("events", "--requeue", "5-5")
    assert manage_json("events", "--requeue", "1/5-5")["requeued"] == 1
    assert server.execute("XLEN", events.keys[1]) == 1


def test_requeue_on_a_full_server_moves_nothing(fresh_server: ValkeyServer) -> None:
    stream = Shards("events", 1)
    with override_settings(CACHES={"default": cache_setting(fresh_server)}, VCACHE={"STREAMS": [f"{PATH}.single"]}):
        bury(fresh_server, stream, "a")
        fresh_server.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(CommandError, match="OOM"):
            manage("events", "--requeue", "all")
    assert len(dead(fresh_server, stream)) == 1
    assert depth(fresh_server, stream) == 0


single = Shards("events", 1)


def test_the_functions_have_an_awaited_form(run: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    bury(server, events, "a", "b")

    async def main() -> None:
        assert (await streams.astate(events)).dead == 2
        first, second = await streams.adead_letters(events)
        assert {first.payload, second.payload} == {b"a", b"b"}
        moved = await asyncio.gather(*(streams.arequeue(events, [letter.id]) for letter in (first, second)))
        assert moved == [1, 1]

    run(main())
    assert depth(server, events) == 2
    assert pending(server, events) == []


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
    with pytest.raises(CommandError, match="goes with"):
        manage("events", "--trim")
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
