"""The consumer's Lua, called over the control connection: what a script does once it does once, also when it is sent a
second time; large batches; ids of any size; what other groups have still to do.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.server import ValkeyServer
from support.streams import GROUP

KEY, DEAD = "{s}", "{s}:dead"


def call(server: ValkeyServer, name: str, keys: list[str], *arguments: str | int) -> Any:
    from django_vcache.admission.consume import group

    script = getattr(group, name)
    return server.execute("EVAL", script.source, len(keys), *keys, *arguments)


def written(server: ValkeyServer, *ids: str) -> list[str]:
    for id in ids:
        server.execute("XADD", KEY, id, "payload", id)
    return list(ids)


def read(server: ValkeyServer, group: str = GROUP, count: int = 1_000_000) -> None:
    server.execute("XREADGROUP", "GROUP", group, "reader", "COUNT", count, "STREAMS", KEY, ">")


def ids_in(server: ValkeyServer, key: str = KEY) -> list[str]:
    return [row[0].decode() for row in server.execute("XRANGE", key, "-", "+")]


def recover(
    server: ValkeyServer,
    *,
    start: str = "-",
    look: int = 10_000,
    most: int = 5,
    sizes: Any = (10_000,),
    whose: str = "",
    newest: int | str = "",
) -> Any:
    return call(server, "_RECOVER", [KEY, DEAD], GROUP, 1, "heir", whose, 0, newest, start, look, most, *sizes)


@pytest.fixture
def server(script_server: ValkeyServer) -> ValkeyServer:
    """Each server that there is, empty."""
    return script_server


@pytest.fixture(autouse=True)
def group(server: ValkeyServer) -> None:
    call(server, "_JOIN", [KEY], GROUP)


def test_join_may_be_sent_again_and_tells_what_is_no_stream(server: ValkeyServer) -> None:
    from support.resp import ServerError

    # One of them has it.
    assert call(server, "_JOIN", [KEY, "{s}:other"], GROUP) == 1
    assert call(server, "_JOIN", [KEY, "{s}:other"], GROUP) == 0
    server.execute("SET", "{s}:text", "x")
    with pytest.raises(ServerError, match="WRONGTYPE"):
        call(server, "_JOIN", [KEY, "{s}:text"], GROUP)


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000])
def test_any_number_of_entries_is_acknowledged_and_deleted(server: ValkeyServer, count: int) -> None:
    ids = written(server, *(f"1-{number}" for number in range(1, count + 1)))
    read(server)
    assert call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, count, *ids) == count
    assert call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, count, *ids) == 0
    assert ids_in(server) == []


def test_several_streams_are_acknowledged_at_once(server: ValkeyServer) -> None:
    call(server, "_JOIN", ["{s}:other"], GROUP)
    written(server, "1-1", "1-2")
    server.execute("XADD", "{s}:other", "1-1", "payload", 1)
    read(server)
    server.execute("XREADGROUP", "GROUP", GROUP, "reader", "STREAMS", "{s}:other", ">")
    assert call(server, "_ACKNOWLEDGE", [KEY, "{s}:other", "{s}:none"], GROUP, 1, 1, "1-2", 1, "1-1", 1, "1-1") == 2
    assert ids_in(server) == ["1-1"]
    assert ids_in(server, "{s}:other") == []


def test_an_entry_is_kept_for_a_group_that_has_not_come_to_it(server: ValkeyServer) -> None:
    """Also where the numbers are too large to be told apart as floating point."""
    ids = written(
        server,
        "9-1",
        "10-0",
        "9007199254740992-5",
        "9007199254740993-4",
        "9007199254740993-18446744073709551614",
        "9007199254740993-18446744073709551615",
    )
    server.execute("XGROUP", "CREATE", KEY, "audit", "0")
    read(server)
    for number, id in enumerate(ids):
        # The other group has read up to here, and has acknowledged it.
        read(server, "audit", 1)
        server.execute("XACK", KEY, "audit", id)
        call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, len(ids), *ids)
        assert ids_in(server) == ids[number + 1 :]


def test_an_entry_is_kept_for_a_group_that_works_on_it(server: ValkeyServer) -> None:
    ids = written(server, "1-1", "1-2", "1-3")
    server.execute("XGROUP", "CREATE", KEY, "audit", "0")
    read(server)
    read(server, "audit")
    server.execute("XACK", KEY, "audit", "1-2")
    assert call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, 3, *ids) == 3
    assert ids_in(server) == ["1-1", "1-3"]


def test_what_was_buried_is_not_buried_again(server: ValkeyServer) -> None:
    ids = written(server, "1-1", "1-2", "1-3")
    read(server)
    call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, 1, "1-3")
    assert call(server, "_BURY", [KEY, DEAD], GROUP, 1, "because", *ids) == 2
    assert call(server, "_BURY", [KEY, DEAD], GROUP, 1, "because", *ids) == 0
    letters = server.execute("XRANGE", DEAD, "-", "+")
    assert [dict(zip(words[::2], words[1::2], strict=True))[b"dead:id"] for _, words in letters] == [b"1-1", b"1-2"]
    assert ids_in(server) == []


def test_what_is_recovered_comes_in_pieces_and_once_a_walk(server: ValkeyServer) -> None:
    ids = written(server, *(f"1-{number}" for number in range(1, 2501)))
    read(server)
    last, seen, buried, *rows = recover(server)
    assert (last, seen, buried) == (1, b"1-2500", 0)
    assert [row[0].decode() for row in rows] == ids
    assert rows[7] == [b"1-8", 2, [b"payload", b"1-8"]]
    found: list[str] = []
    start, last = "-", 0
    while not last:
        last, seen, _, *rows = recover(server, start=start, look=100, sizes=(100, 40))
        # It was their third delivery.
        assert len(rows) <= 40
        found += (row[0].decode() for row in rows)
        start = f"({seen.decode()}" if seen else start
    assert found == ids


def test_an_entry_at_its_last_delivery_comes_alone(server: ValkeyServer) -> None:
    written(server, *(f"1-{number}" for number in range(1, 7)))
    read(server)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-3", "RETRYCOUNT", 2)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-5", "RETRYCOUNT", 3)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-6", "RETRYCOUNT", 0)
    batches = []
    start, last = "-", 0
    while not last:
        last, seen, buried, *rows = recover(server, start=start, most=3, sizes=(10, 1))
        batches.append(([row[0].decode() for row in rows], buried))
        start = f"({seen.decode()}"
    assert batches == [(["1-1", "1-2"], 0), (["1-3"], 0), (["1-4", "1-6"], 1)]
    assert ids_in(server, DEAD) != []


def test_entries_that_were_trimmed_away_are_forgotten(server: ValkeyServer) -> None:
    written(server, "1-1", "1-2", "1-3")
    read(server)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-1", "RETRYCOUNT", 5)
    server.execute("XDEL", KEY, "1-1", "1-2")
    assert recover(server) == [1, b"1-3", 0, [b"1-3", 2, [b"payload", b"1-3"]]]
    assert [row[0] for row in server.execute("XPENDING", KEY, GROUP, "-", "+", 9)] == [b"1-3"]
    assert server.execute("EXISTS", DEAD) == 0


def test_a_consumer_that_holds_something_stays_on_the_list(server: ValkeyServer) -> None:
    written(server, "1-1")
    read(server)
    assert call(server, "_LEAVE", [KEY], GROUP, "reader", 0) == 0
    assert call(server, "_LEAVE", [KEY], GROUP, "", 0) == 0
    call(server, "_ACKNOWLEDGE", [KEY], GROUP, 1, 1, "1-1")
    assert call(server, "_LEAVE", [KEY], GROUP, "", 3_600_000) == 0
    assert call(server, "_LEAVE", [KEY], GROUP, "another", 0) == 0
    assert call(server, "_LEAVE", [KEY], GROUP, "reader", 0) == 1
    assert server.execute("XINFO", "CONSUMERS", KEY, GROUP) == []


def test_a_delivery_that_was_lost_is_made_again_and_not_counted(server: ValkeyServer) -> None:
    written(server, "1-1", "1-2", "1-3")
    read(server)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-1", "IDLE", 3_600_000, "RETRYCOUNT", 1)
    server.execute("XCLAIM", KEY, GROUP, "reader", 0, "1-3", "RETRYCOUNT", 2)
    # The first was delivered long before.
    assert recover(server, most=1, whose="reader", newest=600_000)[:3] == [1, b"1-3", 1]
    assert [row[3] for row in server.execute("XPENDING", KEY, GROUP, "-", "+", 9)] == [1, 1]


def aged(server: ValkeyServer, id: str, *, deliveries: int, owner: str = "reader") -> None:
    words = ("XCLAIM", KEY, GROUP, owner, 0, id, "IDLE", 3_600_000, "RETRYCOUNT", deliveries, "JUSTID")
    server.execute(*words)


def told(server: ValkeyServer) -> dict[str, tuple[str, bool, int]]:
    """Of each pending entry its consumer, whether it is an hour old, and its deliveries."""
    return {
        id.decode(): (owner.decode(), idle >= 3_600_000, deliveries)
        for id, owner, idle, deliveries in server.execute("XPENDING", KEY, GROUP, "-", "+", 1_000_000)
    }


def test_a_claim_is_renewed_for_what_the_consumer_still_has(server: ValkeyServer) -> None:
    written(server, "1-1", "1-2", "1-3", "1-4", "1-5")
    read(server)
    aged(server, "1-1", deliveries=3)
    aged(server, "1-2", deliveries=1, owner="other")
    aged(server, "1-3", deliveries=1)
    server.execute("XDEL", KEY, "1-3")
    server.execute("XACK", KEY, GROUP, "1-4")
    for _ in range(2):
        renewed = call(server, "_EXTEND", [KEY], GROUP, "reader", 4, "1-1", "1-2", "1-3", "1-4")
        assert renewed == [[b"1-1"]]
        assert told(server)["1-1"] == ("reader", False, 3)
        assert told(server)["1-2"] == ("other", True, 1)
        assert "1-4" not in told(server)
    # What it was not asked about stays as it is.
    assert told(server)["1-5"][2] == 1


@pytest.mark.parametrize("count", [0, 999, 1000, 1001, 5000])
def test_any_number_of_claims_is_renewed(server: ValkeyServer, count: int) -> None:
    ids = written(server, *(f"1-{number}" for number in range(1, count + 1)))
    server.execute("XGROUP", "CREATE", "{s}:other", GROUP, "0", "MKSTREAM")
    read(server)
    renewed = call(server, "_EXTEND", ["{s}:other", KEY], GROUP, "reader", 0, count, *ids)
    assert renewed == [[], [id.encode() for id in ids]]


def test_one_delivery_is_excused_once(server: ValkeyServer) -> None:
    written(server, "1-1", "1-2", "1-3", "1-4")
    read(server)
    aged(server, "1-1", deliveries=3)
    aged(server, "1-2", deliveries=3, owner="other")
    server.execute("XACK", KEY, GROUP, "1-3")
    asked = ("1-1", 3, "1-2", 3, "1-3", 3, "1-4", 3)
    assert call(server, "_EXCUSE", [KEY], GROUP, "reader", *asked) == 1
    assert call(server, "_EXCUSE", [KEY], GROUP, "reader", *asked) == 0
    # It is as old as it was, and what is another's, or was delivered another number of times, is left alone.
    assert told(server)["1-1"] == ("reader", True, 2)
    assert told(server)["1-2"] == ("other", True, 3)
    assert told(server)["1-4"][2] == 1
    assert "1-3" not in told(server)


def test_leaving_a_stream_that_was_deleted_is_no_error(server: ValkeyServer) -> None:
    server.execute("DEL", KEY)
    assert call(server, "_LEAVE", [KEY], GROUP, "", 0) == 0


def test_the_oldest_ids_are_told_without_their_entries(server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    ids = written(server, "1-1", "1-2", "1-10", "2-0")

    def oldest(last: str, count: int) -> list[str]:
        return [id.decode() for id in server.execute("EVAL", streams._IDS.source, 1, KEY, last, count)]

    assert oldest("+", 9) == ids
    assert oldest("1-10", 9) == ids[:3]
    assert oldest("+", 2) == ids[:2]
    assert server.execute("EVAL", streams._IDS.source, 1, "{s}:none", "+", 9) == []


def test_without_a_group_only_what_all_have_acknowledged_is_deleted(server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    ids = written(server, "1-1", "1-2", "1-3", "1-4")
    read(server, count=3)
    server.execute("XACK", KEY, GROUP, "1-1", "1-3")
    assert server.execute("EVAL", streams._DELETE_GROUP.source, 1, KEY, "", 1, "-") == [1, 2, b""]
    assert ids_in(server) == [ids[1], ids[3]]
    assert len(server.execute("XINFO", "GROUPS", KEY)) == 1


def test_the_state_of_what_is_missing_is_nothing(server: ValkeyServer) -> None:
    from django_vcache.admission import streams

    written(server, "1-1")
    missing, found = server.execute("EVAL", streams._STATE.source, 4, "{s}:none", KEY, "{s}:none:dead", DEAD)
    assert missing == [0, 0, 0, []]
    assert found[:3] == [1, 1, 0]
    assert found[3][0][0][:2] == [b"name", GROUP.encode()]
