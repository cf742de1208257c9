"""One caller's large reply on the connection that all share: limits still count beside it, loops go on, and nothing is
lost or late for that reason alone.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program, run_program
from support.proxy import Proxy
from support.server import ValkeyServer

MEGABYTE = 1024 * 1024
# About 100 Mbit/s.
NARROW = 12_000_000.0

BESIDE_A_THROTTLE = """
from django_vcache.admission import Throttle

form = _request["loop"]

def told(decisions):
    return [sum(decision.allowed for decision in decisions), sorted({decision.source for decision in decisions})]

async def read_in_a_task():
    for _ in range(4):
        assert len(await cache.aexecute("GET", "large")) == 4 * 1024 * 1024

def read_in_a_thread():
    for _ in range(4):
        assert len(cache.execute("GET", "large")) == 4 * 1024 * 1024

async def ask(throttle):
    reading = asyncio.ensure_future(read_in_a_task())
    decisions = []
    while not reading.done():
        decisions.append(await throttle.acheck(1))
        await asyncio.sleep(0.02)
    await reading
    return decisions

def ask_blocking(throttle):
    reading = threading.Thread(target=read_in_a_thread)
    reading.start()
    decisions = []
    while reading.is_alive():
        decisions.append(throttle.check(1))
        time.sleep(0.02)
    reading.join()
    return decisions

for turn in range(3):
    wait_for_word()
    # Each round has one of its own, because it leaves a server alone for a while that failed several times.
    throttle = Throttle(f"org{turn}", "5/m", key="org")
    throttle.check(0)
    report(told(ask_blocking(throttle) if form == "blocking" else run(ask(throttle))))
"""


@pytest.mark.parametrize("form", ["blocking", *LOOPS])
def test_a_throttle_beside_large_replies_admits_no_more_than_its_limit(fresh_server: ValkeyServer, form: str) -> None:
    """Replies of 4 MB take a third of a second each on this line, and a throttle's own deadline is 100 ms: but its
    answer is on its way, and it is no outage when bytes are arriving all the time."""
    fresh_server.execute("SET", "large", bytes(4 * MEGABYTE))
    with Proxy(fresh_server) as proxy:
        proxy.rate = NARROW
        setting = {**cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0), "LOCATION": proxy.url}
        outcomes: list[Any] = []
        with Program(BESIDE_A_THROTTLE, {"default": setting}, form) as program:
            # A machine that stalls for 100 ms has an outage, so there are three rounds.
            while len(outcomes) < 3 and (not outcomes or "outage" in outcomes[-1][1]):
                program.tell()
                outcomes.append(program.report())
    admitted, sources = outcomes[-1]
    assert set(sources) <= {"server", "deny_cache"}, outcomes
    # On a slow machine the large replies are over before the fifth is asked for.
    assert 1 <= admitted <= 5, outcomes


BESIDE_A_LOOP = """
asked, ticks = [], []
finished = []
reading = threading.Event()

def read():
    reading.set()
    value = cache.execute("GET", "large")
    finished.append(len(value))

async def tick():
    while not finished:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.005)

async def ask():
    while not finished:
        assert await cache.aget("small") == 7
        asked.append(time.monotonic())

async def main():
    await cache.aset("small", 7)
    thread = threading.Thread(target=read)
    thread.start()
    reading.wait()
    async with asyncio.TaskGroup() as group:
        group.create_task(tick())
        for _ in range(20):
            group.create_task(ask())
    await asyncio.to_thread(thread.join)
    gaps = [after - before for before, after in zip(ticks, ticks[1:])]
    ids = {await cache.aexecute("CLIENT", "ID"), cache.execute("CLIENT", "ID")}
    report([finished, len(ticks), max(gaps), len(asked), len(ids)])

run(main())
"""


@pytest.mark.parametrize(("loop", "rate"), [("asyncio", None), ("asyncio", 40_000_000.0), ("uvloop", 40_000_000.0)])
def test_a_loop_goes_on_beside_a_thread_that_reads_a_large_value(
    fresh_server: ValkeyServer, loop: str, rate: float | None
) -> None:
    fresh_server.execute("SET", "large", bytes(32 * MEGABYTE))
    with Proxy(fresh_server) as proxy:
        proxy.rate = rate
        setting = {**cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0), "LOCATION": proxy.url}
        finished, ticks, longest, asked, connections = run_program(BESIDE_A_LOOP, {"default": setting}, loop)
    assert finished == [32 * MEGABYTE]
    assert asked >= 20
    assert connections == 1
    # How late exactly is the benches' business; this is a loop that stands still until the value is there.
    if rate is not None:
        assert ticks >= 20
    assert longest < 0.7
