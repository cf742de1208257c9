"""Several consumers of one group, as they run in production: replaced one by one under load, racing for what a dead one
held, killed together with the server. No entry is lost, and what comes twice says so.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.programs import Program
from support.resp import Control, ServerError
from support.server import ValkeyServer, wait_until
from support.streams import FORMS, GROUP, Form, Helper, Shards, add, depth, drain, make, numbers, pending, program

SHARDS = 3


class Writers:
    """Threads that write until they are told to end, also over a server that dies. What was answered is kept."""

    def __init__(self, server: ValkeyServer, stream: Shards, count: int = 2) -> None:
        self.answered: set[tuple[int, str]] = set()
        self._paths = [server.at(key).socket_path for key in stream.keys]
        self._stream = stream
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(count)]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        controls: dict[str, Control] = {}
        while not self._over.is_set():
            try:
                for shard, (key, path) in enumerate(zip(self._stream.keys, self._paths, strict=True)):
                    control = controls[path] = controls.get(path) or Control(path)
                    self.answered.add((shard, control.execute("XADD", key, "*", "payload", 1).decode()))
                # Not as fast as they can: a slow machine has other work to do.
                self._over.wait(0.001)
            except (OSError, ServerError):
                while controls:
                    controls.popitem()[1].close()
                self._over.wait(0.01)
        for control in controls.values():
            control.close()

    def more(self, count: int) -> None:
        """Waits until so many more were answered."""
        before = len(self.answered)
        wait_until(lambda: len(self.answered) > before + count, timeout=60, what=f"{count} more entries")


WORKER = """
done = []

def work(batch):
    if not done:
        report("working")
    done.extend([entry.shard, entry.id] for entry in batch)

consume(work, batch=20)
# A long line would be cut by a loop that has left its pipe without blocking.
for first in range(0, len(done), 100):
    report(done[first : first + 100])
report([])
"""


@pytest.mark.parametrize("kind", FORMS)
def test_a_rolling_restart_loses_nothing_and_does_nothing_twice(
    server: ValkeyServer, default_cache: None, kind: str
) -> None:
    stream = Shards(count=SHARDS)
    done: Counter[tuple[int, str]] = Counter()

    def replaced(old: Program) -> None:
        os.kill(old.pid, signal.SIGTERM)
        while part := old.report():
            done.update((shard, id) for shard, id in part)
        old.end()

    with contextlib.ExitStack() as programs, Writers(server, stream) as writers:

        def start() -> Program:
            return programs.enter_context(program(kind, SHARDS, WORKER, server))

        fleet = [start(), start()]
        for _ in range(4):
            assert fleet[0].report() == "working"
            writers.more(50)
            fleet.append(start())
            replaced(fleet.pop(0))
        for last in fleet:
            assert last.report() == "working"
        writers.end()
        wait_until(lambda: depth(server, stream) == 0, timeout=60, what="an empty stream")
        for last in fleet:
            replaced(last)
    assert set(done) == writers.answered
    assert set(done.values()) == {1}
    assert pending(server, stream) == []


def test_of_several_who_take_over_the_same_entries_each_gets_its_own(server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(400))
    for key in stream.keys:
        server.execute("XGROUP", "CREATE", key, GROUP, "0")
        server.execute("XREADGROUP", "GROUP", GROUP, "dead", "STREAMS", key, ">")
        ids = [id for id, _ in server.execute("XRANGE", key, "-", "+")]
        # It was long ago, so that what is taken over now is not taken over once more.
        server.execute("XCLAIM", key, GROUP, "dead", 0, *ids, "IDLE", 3_600_000, "RETRYCOUNT", 1, "JUSTID")
    racers = [make(stream, batch=16, reclaim_after=600.0, signals=()) for _ in range(4)]
    seen: list[list[Any]] = [[] for _ in racers]
    together = threading.Barrier(len(racers))

    def stop_all() -> None:
        for racer in racers:
            racer.stop()

    def race(consumer: Any, found: list[Any]) -> None:
        together.wait(60)
        for batch in consumer:
            found.extend(batch)
            if sum(map(len, seen)) >= 400:
                stop_all()

    helpers = [
        Helper(lambda consumer=consumer, found=found: race(consumer, found), stop_all)
        for consumer, found in zip(racers, seen, strict=True)
    ]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    assert sorted(numbers(entry for found in seen for entry in found)) == list(range(400))
    assert {entry.deliveries for found in seen for entry in found} == {2}
    assert sum(map(bool, seen)) > 1
    assert pending(server, stream) == []
    assert depth(server, stream) == 0


@pytest.fixture
def durable_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


REPORTS_AS_IT_GOES = """
def work(batch):
    report([[entry.shard, entry.id, entry.deliveries] for entry in batch])

consume(work, batch=20, max_deliveries=None, reclaim_after=1.0)
report([])
"""


@pytest.mark.parametrize("kind", FORMS)
def test_nothing_is_lost_when_the_consumer_and_the_server_are_killed(durable_server: ValkeyServer, kind: str) -> None:
    server, stream = durable_server, Shards(count=SHARDS)
    seen: list[tuple[int, str, int]] = []

    def start() -> Program:
        return program(kind, SHARDS, REPORTS_AS_IT_GOES, server, RESPONSE_TIMEOUT=2.0, CONNECT_TIMEOUT=2.0)

    with Writers(server, stream) as writers:
        for turn in range(4):
            with start() as worker:
                until = len(seen) + 100
                while len(seen) < until:
                    seen.extend((shard, id, deliveries) for shard, id, deliveries in worker.report())
                # Each of them first, in turn.
                if turn % 2:
                    server.kill()
                os.kill(worker.pid, signal.SIGKILL)
                server.kill()
                seen.extend(told(worker.exit_code()[1]))
            server.restart()
            writers.more(50)
    with override_settings(CACHES={"default": cache_setting(server)}):
        left = depth(server, stream)
        found = drain(Form(None), stream, left, max_deliveries=None, reclaim_after=1.0) if left else []
    seen.extend((entry.shard, entry.id, entry.deliveries) for entry in found)
    assert writers.answered <= {(shard, id) for shard, id, _ in seen}
    first_time = Counter((shard, id) for shard, id, deliveries in seen if deliveries == 1)
    assert set(first_time.values()) == {1}
    assert depth(server, stream) == 0
    assert pending(server, stream) == []


def told(printed: str) -> Iterator[tuple[int, str, int]]:
    """What is in the last reports of a program that was killed: the very last may be cut."""
    for line in printed.splitlines():
        if line.startswith("[") and line.endswith("]]"):
            yield from ((shard, id, deliveries) for shard, id, deliveries in json.loads(line))
