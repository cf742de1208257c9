"""``manage.py vcache_stream`` and the functions behind it: the state of streams and their readers, dead letters with
their reasons, and dead letters moved back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.streams import GROUP, Shards, add, dead, depth, pending

events = Shards("events", 3)


@pytest.fixture(autouse=True)
def project(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Its streams are those that the tests read and write."""
    from django_vcache.admission import Gate, Stream, Throttle

    shop: Any = ModuleType("shop")
    shop.events = Stream("events", shards=3, prefix="test")
    shop.single = Stream("events", prefix="test")
    throttle = Throttle("org", "10/m")
    shop.gate = Gate([Throttle("org", "10/m")], stream=Stream("orders"), shards=2, prefix="test", owner="org")
    shop.gate_without = Gate([throttle])
    shop.throttle = throttle
    shop.number = 1
    monkeypatch.setitem(sys.modules, "shop", shop)
    with override_settings(
        CACHES={"default": cache_setting(server)},
        INSTALLED_APPS=["django_vcache"],
        VCACHE={"STREAMS": ["shop.events"], "GATES": ["shop.gate", "shop.gate_without", "shop.throttle"]},
    ):
        get_commands.cache_clear()
        yield
    get_commands.cache_clear()


def manage(*arguments: str) -> str:
    out = StringIO()
    call_command("vcache_stream", *arguments, "--noinput", stdout=out, no_color=True)
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


def test_lag_is_unknown_only_while_entries_are_pending_before_those_that_are_done(server: ValkeyServer) -> None:
    """Of two consumers the one that was given the later entries is done first."""
    from django_vcache.admission import streams
    from django_vcache.admission.consumer import Consumer

    def lag() -> int | None:
        return streams.state(stream).groups[0].lag

    stream = Shards("events", 1)
    add(server, stream, *range(20))
    slow, fast = (iter(Consumer(stream, GROUP, batch=10, max_wait=0.0, signals=())) for _ in range(2))
    earlier, later = next(slow), next(fast)
    assert lag() == 0
    later.ack()
    add(server, stream, 20)
    assert lag() is None
    earlier.ack()
    assert lag() == 1


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
    assert "Nothing is stored under test:2:{v00}:s:orders yet" in text


def test_a_stream_named_twice_is_shown_once() -> None:
    with override_settings(VCACHE={"STREAMS": ["shop.events", "shop.events"]}):
        assert len(manage_json()) == 1


def test_a_dotted_path_is_a_stream_or_a_gate(server: ValkeyServer) -> None:
    with override_settings(VCACHE={}):
        assert [state["name"] for state in manage_json("shop.events")] == ["events"]
        assert [state["name"] for state in manage_json("shop.gate")] == ["orders"]


def test_a_name_with_shards_and_prefix_is_a_stream_of_no_code(server: ValkeyServer) -> None:
    for shard in ("00", "01"):
        server.execute("XADD", f"my:app:2:{{v{shard}}}:s:other", "*", "payload", 1)
    (state,) = manage_json("other", "--shards", "2", "--prefix", "my:app")
    assert (state["depth"], state["shards"], state["exists"]) == (2, 2, True)
    assert "--shards, --prefix and --using say where else" in manage("other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["no.such.stream"],
            "the stream 'no.such.stream' cannot be imported: ModuleNotFoundError: No module named 'no'",
        ),
        (["shop.number"], "'shop.number' is not a django_vcache.admission.Stream, but int"),
        (["shop.gate_without"], "has no stream"),
        (["a b"], '"a b" is not a name for a stream'),
        (["other", "--shards", "0"], "shards is 0"),
        (["other", "--prefix", "a{b"], '"a{b" is not a prefix'),
        (["other", "--using", "elsewhere"], "'elsewhere'"),
        (["--shards", "2"], "--shards goes with the name of a stream"),
        (["events", "--dead", "--limit", "0"], "--limit is 0"),
        (["--requeue", "all"], "--requeue is for one stream, say which: events, orders"),
        (["--drop", "all"], "--drop is for one stream, say which: events, orders"),
        (["--trim"], "--trim is for one stream, say which: events, orders"),
        (["events", "--requeue", "all", "1-1"], "--requeue takes ids, or 'all' alone"),
        (["events", "--drop", "all", "1-1"], "--drop takes ids, or 'all' alone"),
        (["events", "--drop", "1-1"], "has no dead letter '1-1'"),
        (["events", "--drop", "1-1", "--requeue", "all"], "--requeue or --drop, one at a time"),
        (["events", "--create-group", "a", "--trim"], "--create-group or --trim, one at a time"),
        (["events", "--create-group", ""], "a text of at least one letter, not ''"),
        (["events", "--delete-group", "", "--trim"], "a text of at least one letter, not ''"),
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


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"STREAM": ["shop.events"]}, "unknown setting 'STREAM'. Did you mean STREAMS?"),
        ({"STREAMS": "shop.events"}, "VCACHE['STREAMS'] must be a list of dotted paths"),
        ({"STREAMS": ["broken.events"]}, "the stream 'broken.events' cannot be imported: KeyError: 'no such setting'"),
    ],
    ids=["misspelled", "no list", "raises"],
)
def test_settings_that_make_no_sense_are_an_error_that_says_why(
    setting: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("{}['no such setting']")
    monkeypatch.syspath_prepend(str(tmp_path))
    with override_settings(VCACHE=setting), pytest.raises(CommandError) as caught:
        manage()
    assert message in str(caught.value)


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
    with override_settings(CACHES={"default": cache_setting(fresh_server)}, VCACHE={"STREAMS": ["shop.single"]}):
        bury(fresh_server, stream, "a")
        fresh_server.execute("CONFIG", "SET", "maxmemory", 1)
        with pytest.raises(CommandError, match="OOM"):
            manage("events", "--requeue", "all")
    assert len(dead(fresh_server, stream)) == 1
    assert depth(fresh_server, stream) == 0


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


def test_drop_deletes_dead_letters_and_nothing_else(server: ValkeyServer) -> None:
    bury(server, events, "a", "b", "c", "d")
    add(server, events, "alive")
    chosen = [letter["id"] for letter in manage_json("events", "--dead") if letter["payload"] in "bc"]
    assert manage("events", "--drop", *chosen) == "2 dead letters of events dropped\n"
    assert {letter["payload"] for letter in dead(server, events)} == {"a", "d"}
    with pytest.raises(CommandError, match="has no dead letter '5-5'"):
        manage("events", "--drop", manage_json("events", "--dead")[0]["id"], "5-5")
    assert len(dead(server, events)) == 2
    assert manage_json("events", "--drop", "all") == {"stream": "events", "dropped": 2}
    assert manage_json("events", "--drop", "all") == {"stream": "events", "dropped": 0}
    assert depth(server, events) == 1


def test_dead_letters_are_dropped_in_code(run: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    bury(server, events, *range(250))
    ids = [letter.id for letter in streams.dead_letters(events, 210)]
    for function in (streams.drop_dead_letters, streams.requeue):
        with pytest.raises(TypeError, match="a list of ids, not the string"):
            function(events, ids[0])
    assert streams.drop_dead_letters(events, ids[:205]) == 205
    assert run(streams.adrop_dead_letters(events, ids[205:])) == 5
    assert run(streams.adrop_dead_letters(events)) == 40
    assert dead(server, events) == []


def test_the_oldest_dead_letters_of_all_shards_come_first(server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    for shard, ids in enumerate([["9-2", "10-0", "11-0"], ["100-0"], ["9-1", "9-10", "10-0"]]):
        for id in ids:
            server.execute("XADD", events.dead_keys[shard], id, "payload", id)
    assert [letter.id for letter in streams.dead_letters(events, 4)] == ["2/9-1", "0/9-2", "2/9-10", "0/10-0"]


@pytest.mark.parametrize("shards", [1, 16])
def test_looking_at_a_stream_is_one_round_trip(server: ValkeyServer, shards: int) -> None:
    from django_vcache.admission import streams

    def calls() -> Any:
        counts = server.command_counts()
        return counts.get("evalsha", 0), counts.get("eval", 0)

    stream = Shards("events", shards)
    for key in stream.keys:
        for group in ("one", "two"):
            server.execute("XGROUP", "CREATE", key, group, "0", "MKSTREAM")
    streams.state(stream)
    before = calls()
    assert len(streams.state(stream).groups) == 2
    assert calls() == (before[0] + server.parts(stream.keys), before[1])
