"""An ingest endpoint and its batch job when the server is killed in mid-stream: what was answered with a yes is found
by the consumer, once, and is charged, once.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer, wait_until
from support.streams import GROUP, Form

SHARDS = 4
KILLS = 6
PATIENCE = 60.0
# A busy machine is no outage, and neither is a slow disk.
LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 5.0}

# Each event is asked for until it is answered with a yes, also the last one. A third of them is sent by both processes,
# and some are sent again by their client, who has had an answer.
WRITES = """
import zlib
from django_vcache.admission import Gate, Quota, Stream, Throttle

gate = Gate(
    throttles=[Throttle("org", "1000000/s")],
    quotas=[Quota("events", 10**9, "month")],
    stream=Stream("events"),
    shards=SHARDS,
    breaker=BREAKER,
    deadline=None,
)
over = threading.Event()
answered = {}
new = []
failures = {"refused": 0, "raised": 0}


def end():
    wait_for_word()
    over.set()


async def admit(event):
    while True:
        try:
            decision = await gate.aadmit(
                {"org": zlib.crc32(event.encode()) % 24}, payload=event, cost=1, dedupe=event
            )
        except exceptions.VcacheError:
            failures["raised"] += 1
        else:
            if decision:
                answered.setdefault(event, set()).add(decision.id)
                if not decision.duplicate:
                    new.append(event)
                return
            assert decision.refused_by.kind == "outage", repr(decision)
            failures["refused"] += 1
        await asyncio.sleep(0.005)


async def write(task):
    number = 0
    while not over.is_set():
        number += 1
        await admit(f"{ME}-{task}-{number}")
        await admit(f"{ME}-{task}-{number}-more")
        await admit(f"both-{task}-{number}")
        if number % 10 == 0:
            await admit(f"{ME}-{task}-{number}")
        if task == 0 and number == 1:
            report("writing")


async def main():
    await asyncio.gather(*(write(task) for task in range(8)))


threading.Thread(target=end, daemon=True).start()
run(main())
with open(ANSWERS, "w") as answers:
    json.dump([{event: sorted(ids) for event, ids in answered.items()}, new, failures], answers)
"""


@pytest.fixture
def durable_server() -> Iterator[ValkeyServer]:
    """One that has on its disk what it has answered."""
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


def writers(server: ValkeyServer, folder: Path) -> tuple[Program, Program]:
    """Two processes, one on each loop, of which one leaves a failing server alone for a while. Each tells in a file of
    its name what it was answered."""

    def start(me: str, loop: str, breaker: bool) -> Program:
        head = f"ME, ANSWERS, SHARDS, BREAKER = {me!r}, {str(folder / me)!r}, {SHARDS}, {breaker}\n"
        return Program(head + WRITES, {"default": cache_setting(server, **LIMITS)}, loop)

    return start("one", "asyncio", True), start("two", "uvloop", False)


def charged(server: ValkeyServer) -> Counter[str]:
    """The units that each owner's quota was charged, in whichever months."""
    units: Counter[str] = Counter()
    for key in server.keys("vcache:*:q:events:*"):
        count = server.execute("GET", key)
        assert isinstance(count, bytes)
        units[key.decode().split(":")[4]] += int(count)
    return units


def written(server: ValkeyServer, keys: tuple[str, ...]) -> list[int]:
    """The entries that each shard was ever given, also those that are deleted."""
    counts = []
    for key in keys:
        told: Any = server.execute("XINFO", "STREAM", key)
        counts.append(dict(zip(told[::2], told[1::2], strict=True))[b"entries-added"])
    return counts


def test_what_was_answered_with_yes_is_found_and_charged_exactly_once(
    form: Form, durable_server: ValkeyServer, tmp_path: Path
) -> None:
    """The server is killed again and again while two processes write and one reads."""
    from django_vcache.admission.consumer import Consumer
    from django_vcache.admission.streams import NamedStream

    server, stream = durable_server, NamedStream("events", SHARDS)
    # By shard and entry's id: the event and its owner, once for each delivery.
    found: dict[tuple[int, str], list[tuple[str, str]]] = {}
    first_time: list[tuple[int, str]] = []

    async def work(batch: Any) -> None:
        for entry in batch:
            event = entry.payload.decode(), entry.fields["org"].decode()
            found.setdefault((entry.shard, entry.id), []).append(event)
        first_time.extend((entry.shard, entry.id) for entry in batch if entry.deliveries == 1)

    with override_settings(CACHES={"default": cache_setting(server, **LIMITS)}):
        consumer = Consumer(stream, GROUP, batch=200, max_wait=0.02, reclaim_after=5.0, max_deliveries=None, signals=())
        # NOTE: the server dies with the thread that started it, so this thread is the one that does.
        consuming = threading.Thread(target=form.consume, args=(consumer, work))
        consuming.start()
        try:
            one, two = writers(server, tmp_path)
            with one, two:
                for program in (one, two):
                    assert program.report() == "writing"
                for _ in range(KILLS):
                    more_than(found, 400)
                    server.kill()
                    server.restart()
                more_than(found, 400)
                for program in (one, two):
                    program.tell()
                for program in (one, two):
                    program.end()
            answers = [json.loads((tmp_path / name).read_text()) for name in ("one", "two")]
            answered = {event for told, _, _ in answers for event in told}
            wait_until(
                lambda: answered <= {event for event, _ in (each[0] for each in list(found.values()))},
                timeout=PATIENCE,
                interval=0.05,
                what="all that was answered is found",
            )
        finally:
            consumer.stop()
            consuming.join()

    # Whoever asked, and how often: an event has one id, and is new once at most.
    ids: dict[str, set[str]] = {}
    for told, _, _ in answers:
        for event, of_event in told.items():
            ids.setdefault(event, set()).update(of_event)
    assert {event: len(of_event) for event, of_event in ids.items() if len(of_event) != 1} == {}
    new = Counter(event for _, events, _ in answers for event in events)
    assert [event for event, times in new.items() if times > 1] == []
    assert "both-0-1" in answers[0][0]
    assert "both-0-1" in answers[1][0]

    # Entries that came twice are the same entry. Each event is one entry, with the id that was answered.
    assert [key for key, deliveries in found.items() if len(set(deliveries)) > 1] == []
    events = Counter(deliveries[0][0] for deliveries in found.values())
    assert [event for event, entries in events.items() if entries > 1] == []
    assert {deliveries[0][0]: {id} for (_, id), deliveries in found.items()} == ids
    # What comes a second time says so.
    assert len(first_time) == len(set(first_time))

    # The server has written no other, and charged no other.
    assert written(server, stream.keys) == [sum(shard == each for shard, _ in found) for each in range(SHARDS)]
    assert charged(server) == Counter(deliveries[0][1] for deliveries in found.values())
    assert sum(charged(server).values()) == len(ids)
    assert [server.execute("XLEN", key) for key in stream.keys + stream.dead_keys] == [0] * 2 * SHARDS

    assert len(ids) > KILLS * 400
    assert {shard for shard, _ in found} == set(range(SHARDS))
    assert sum(failures["refused"] + failures["raised"] for _, _, failures in answers) > 0
    assert consumer.metrics()["outages"] > 0


def more_than(found: dict[tuple[int, str], Any], count: int) -> None:
    """Waits until the consumer has found so many more entries."""
    before = len(found)
    wait_until(lambda: len(found) > before + count, timeout=PATIENCE, what=f"{count} more entries than {before}")
