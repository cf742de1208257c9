"""An ingest endpoint and its batch job when the server is killed in mid-stream: what was answered with a 200 is found
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
TASKS = 8
KILLS = 6
PATIENCE = 60.0
# A busy machine is no outage, and neither is a slow disk.
LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 5.0}

# A view of each form, behind all of Django. Its clients ask for each event until the answer is a 200, also for the last
# one. A third of the events are sent by both processes, and some are sent again by a client that has had its answer.
WRITES = """
import zlib
from concurrent.futures import ThreadPoolExecutor
from django.http import JsonResponse
from django.test import AsyncClient, Client
from django.urls import path
from django_vcache.admission import Gate, Quota, Stream, Throttle

gate = Gate(
    throttles=[Throttle("org", "1000000/s")],
    quotas=[Quota("events", 10**9, "month")],
    stream=Stream("events"),
    shards=SHARDS,
    breaker=BREAKER,
    deadline=None,
    owner="org",
)
over = threading.Event()
answered = {}
new = []
statuses = {}


def asked(request):
    event = request.body.decode()
    return {"org": zlib.crc32(request.body) % 24}, {"payload": event, "cost": 1, "dedupe": event}


def answer(decision):
    if not decision:
        return decision.response()
    return JsonResponse({"id": decision.id, "duplicate": decision.duplicate})


def ingest(request):
    scope, event = asked(request)
    return answer(gate.admit(scope, **event))


async def aingest(request):
    scope, event = asked(request)
    return answer(await gate.aadmit(scope, **event))


urlpatterns = [path("ingest", ingest), path("aingest", aingest)]
settings.ROOT_URLCONF = __name__
settings.ALLOWED_HOSTS = ["*"]
# It would tell of each 500 that there is nobody to tell.
settings.LOGGING_CONFIG = None


def end():
    wait_for_word()
    over.set()


def noted(event, response):
    # True if it was admitted.
    statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
    if response.status_code != 200:
        return False
    told = response.json()
    answered.setdefault(event, set()).add(told["id"])
    if not told["duplicate"]:
        new.append(event)
    return True


def events(task):
    number = 0
    while not over.is_set():
        number += 1
        yield f"{ME}-{task}-{number}"
        yield f"{ME}-{task}-{number}-more"
        yield f"both-{task}-{number}"
        if number % 10 == 0:
            yield f"{ME}-{task}-{number}"
        if task == 0 and number == 1:
            report("writing")


def write(task):
    client = Client(raise_request_exception=False)
    for event in events(task):
        while not noted(event, client.post("/ingest", event, "text/plain")):
            time.sleep(0.005)


async def awrite(task):
    client = AsyncClient(raise_request_exception=False)
    for event in events(task):
        while not noted(event, await client.post("/aingest", event, "text/plain")):
            await asyncio.sleep(0.005)


async def all_tasks():
    await asyncio.gather(*(awrite(task) for task in range(TASKS)))


threading.Thread(target=end, daemon=True).start()
if FORM == "sync":
    with ThreadPoolExecutor(TASKS) as pool:
        list(pool.map(write, range(TASKS)))
else:
    run(all_tasks())
with open(ANSWERS, "w") as answers:
    json.dump([{event: sorted(ids) for event, ids in answered.items()}, new, statuses], answers)
"""


@pytest.fixture
def durable_server() -> Iterator[ValkeyServer]:
    """One that has on its disk what it has answered."""
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


def writers(server: ValkeyServer, folder: Path) -> tuple[Program, Program]:
    """Two processes, of which one blocks in threads and the other awaits, and one leaves a failing server alone for a
    while. Each tells in a file of its name what it was answered."""

    def start(me: str, form: str, breaker: bool) -> Program:
        head = f"ME, FORM, ANSWERS, BREAKER = {me!r}, {form!r}, {str(folder / me)!r}, {breaker}\n"
        head += f"SHARDS, TASKS = {SHARDS}, {TASKS}\n"
        loop = "uvloop" if form == "sync" else form
        return Program(head + WRITES, {"default": cache_setting(server, **LIMITS)}, loop)

    return start("one", "uvloop", True), start("two", "sync", False)


def charged(server: ValkeyServer) -> Counter[str]:
    """The units that each owner's quota was charged, in whichever months."""
    units: Counter[str] = Counter()
    for key in server.keys("vcache:*:q:events:*"):
        count = server.execute("GET", key)
        assert isinstance(count, bytes)
        units[key.decode().split(":")[5].removeprefix("org=")] += int(count)
    return units


def written(server: ValkeyServer, keys: tuple[str, ...]) -> list[int]:
    """The entries that each shard was ever given, also those that are deleted."""
    counts = []
    for key in keys:
        told: Any = server.execute("XINFO", "STREAM", key)
        counts.append(dict(zip(told[::2], told[1::2], strict=True))[b"entries-added"])
    return counts


def test_what_was_answered_200_is_found_and_charged_exactly_once(
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
        # They are those of the alias, and so of these settings.
        keys, dead_keys = stream.keys, stream.dead_keys
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
    assert written(server, keys) == [sum(shard == each for shard, _ in found) for each in range(SHARDS)]
    assert charged(server) == Counter(deliveries[0][1] for deliveries in found.values())
    assert sum(charged(server).values()) == len(ids)
    assert [server.execute("XLEN", key) for key in keys + dead_keys] == [0] * 2 * SHARDS

    assert len(ids) > KILLS * 400
    assert {shard for shard, _ in found} == set(range(SHARDS))
    # What was not answered with a 200 was answered with a 503: neither a refusal nor an error of the view's.
    assert {status for _, _, statuses in answers for status in statuses} == {"200", "503"}
    assert consumer.metrics()["outages"] > 0


def more_than(found: dict[tuple[int, str], Any], count: int) -> None:
    """Waits until the consumer has found so many more entries."""
    before = len(found)
    wait_until(lambda: len(found) > before + count, timeout=PATIENCE, what=f"{count} more entries than {before}")
