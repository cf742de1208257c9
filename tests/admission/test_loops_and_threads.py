"""Limits, gates and streams outlive event loops, and are used by several threads and loops at once: whatever was sent
is charged once.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 2}
THREADS = 4


@pytest.fixture
def server(fresh_server: ValkeyServer) -> ValkeyServer:
    """In place of the session's server: this one may be paused."""
    return fresh_server


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_closed_loop_had_asked_is_charged_and_the_next_loop_goes_on(
    default_alias: None, server: ValkeyServer, loop: str
) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    throttle = Throttle("org", "10000/d")
    gate = Gate([Throttle("project", "10000/d")], [Quota("events", 10_000, "month")], Stream("events"), owner="org")

    async def ask(number: int) -> None:
        asked = [throttle.acheck(1) for _ in range(number)]
        asked += [gate.aadmit(SCOPE, payload=b"x") for _ in range(number)]
        assert all(await asyncio.gather(*asked))

    async def abandon() -> None:
        for _ in range(50):
            # Begun, and held by no task.
            throttle.acheck(1).__await__()
            gate.aadmit(SCOPE, payload=b"x").__await__()
        await asyncio.sleep(0)

    with open_runner(loop) as runner:
        runner.run(ask(1))
    for turn in range(1, 4):
        server.pause()
        try:
            closing = open_runner(loop).get_loop()
            closing.run_until_complete(abandon())
            closing.close()
            del closing
        finally:
            server.resume()
        with open_runner(loop) as runner:
            runner.run(ask(10))
        assert throttle.check(1)
        assert gate.admit(SCOPE, payload=b"x")
        gc.collect()
        # The connection is one, and what goes over it is answered in order.
        count = 1 + 61 * turn
        assert throttle.peek(1).remaining == 10_000 - count
        [project, events] = gate.peek(SCOPE)
        assert (project.remaining, events.used) == (10_000 - count, count)
        assert gate.stream is not None
        assert gate.stream.length() == count
    assert len(server.clients()) == 1


def in_threads(work: Callable[[int], Any]) -> list[Any]:
    """What each of some threads comes to, which begin together."""
    together = threading.Barrier(THREADS)

    def begin(number: int) -> Any:
        together.wait(60)
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(begin, range(THREADS)))


@pytest.mark.parametrize("form", ["sync", *LOOPS])
def test_a_gate_of_several_threads_charges_each_event_once_and_no_more_than_its_limits(
    default_alias: None, server: ValkeyServer, form: str
) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    gate = Gate(
        [Throttle("org", "1000/d")], [Quota("events", 150, "month")], Stream("events"), deny_cache=False, owner="org"
    )
    # Each thread has fifty events of its own, and fifty that all of them have.
    names = [
        [f"{number}-{event}" for event in range(50)] + [f"all-{event}" for event in range(50)] for number in range(4)
    ]

    async def all_at_once(events: list[str]) -> list[Any]:
        return await asyncio.gather(*(gate.aadmit(SCOPE, payload=event, dedupe=event) for event in events))

    def work(number: int) -> list[tuple[str, Any]]:
        events = names[number]
        if form == "sync":
            return [(event, gate.admit(SCOPE, payload=event, dedupe=event)) for event in events]
        with open_runner(form) as runner:
            return list(zip(events, runner.run(all_at_once(events)), strict=True))

    told = [each for thread in in_threads(work) for each in thread]
    assert len(told) == 400
    new = [event for event, decision in told if decision and not decision.duplicate]
    assert len(new) == len(set(new)) == 150
    ids = {event: decision.id for event, decision in told if decision}
    assert ids.keys() == set(new)
    assert gate.stream is not None
    entries: Any = server.execute("XRANGE", gate.stream.keys[0], "-", "+")
    assert {fields[1].decode(): entry.decode() for entry, fields in entries} == ids
    assert [len(entries), *(rule.remaining for rule in gate.peek(SCOPE))] == [150, 850, 0]
    assert {decision.refused_by.rule for _, decision in told if not decision} == {"events"}


@pytest.mark.parametrize("form", ["sync", *LOOPS])
def test_a_stream_of_several_threads_holds_what_each_of_them_added(
    default_alias: None, server: ValkeyServer, form: str
) -> None:
    from django_vcache.admission import Stream

    stream = Stream("mails", maxlen=300, shards=1)

    async def all_at_once(number: int) -> list[str | None]:
        added = await asyncio.gather(*(stream.aadd(f"{number}-{event}") for event in range(50)))
        many = await stream.aadd_many([f"{number}-{event}" for event in range(50, 100)])
        return [decision.id for decision in added] + many

    def work(number: int) -> list[str | None]:
        if form == "sync":
            added = [stream.add(f"{number}-{event}").id for event in range(50)]
            return added + stream.add_many([f"{number}-{event}" for event in range(50, 100)])
        with open_runner(form) as runner:
            return runner.run(all_at_once(number))

    told = {
        f"{number}-{event}": entry for number, ids in enumerate(in_threads(work)) for event, entry in enumerate(ids)
    }
    assert len(told) == 400
    entries: Any = server.execute("XRANGE", stream.keys[0], "-", "+")
    assert len(entries) == stream.length() == 300
    found = {fields[1].decode(): entry.decode() for entry, fields in entries}
    assert found == {payload: entry for payload, entry in told.items() if entry}
