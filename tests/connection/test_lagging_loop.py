"""A loop that is late: a handler computes, a debugger stops the process, the machine is busy. What was not sent cannot
have been answered, and what was answered meanwhile lies in the socket: neither is a time-out or an outage. The server
gets its work while Python computes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS
from support.fake import FakeServer, Peer, answer_keys
from support.programs import Program, run_program
from support.proxy import Proxy
from support.server import ValkeyServer, wait_until

# What a program gives up after, and how long its loop is held: longer.
RESPONSE_TIMEOUT = 0.5
HELD = 0.7

HELPERS = """
from django_vcache.admission import Throttle

def compute(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass

def told(decisions):
    return [sum(decision.allowed for decision in decisions), sorted({decision.source for decision in decisions})]
"""

REQUESTS = """
async def request(throttle, number, org):
    compute(0.0005 + 0.00025 * (number % 3))
    return await throttle.acheck(org)

async def main():
    for org in range(3):
        # Its own one, because a throttle leaves a server alone for a while that failed several times.
        throttle = Throttle("org", "5/m")
        await cache.aget("warm")
        await (cache.aexecute("SCRIPT", "FLUSH") if wait_for_word() == b"flush" else throttle.acheck(100 + org))
        report(told(await asyncio.gather(*(request(throttle, number, org) for number in range(300)))))

run(main())
"""


def rounds(program: Program, word: str) -> list[Any]:
    """Rounds up to the first in which the server decided everything, three at most: the deadline of a throttle is
    100 ms, so a machine that stalls for as long has an outage, and that is not what is tested."""
    outcomes = []
    for _ in range(3):
        program.tell(word)
        outcomes.append(program.report())
        if "outage" not in outcomes[-1][1]:
            break
    return outcomes


@pytest.mark.parametrize(("loop", "script"), [("asyncio", "known"), ("uvloop", "flush"), ("uvloop", "known")])
def test_requests_that_compute_are_throttled_by_the_server(fresh_server: ValkeyServer, loop: str, script: str) -> None:
    """300 handlers come together on one loop, and each computes for up to a millisecond before it asks. It is no matter
    whether the server knows the script yet."""
    with Proxy(fresh_server, delay=0.001) as proxy:
        setting = {**cache_setting(fresh_server), "LOCATION": proxy.url}
        with Program(HELPERS + REQUESTS, {"default": setting}, loop) as program:
            outcomes = rounds(program, script)
    admitted, sources = outcomes[-1]
    # A refusal is remembered, so some of the later ones may be refused without the server.
    assert set(sources) <= {"server", "deny_cache"}, outcomes
    assert admitted == 5, outcomes


ONE_HANDLER = """
async def main():
    for org in range(3):
        throttle = Throttle("org", "5/m")
        await throttle.acheck(100 + org)
        sent = wait_for_word() == b"sent"
        asked = [asyncio.ensure_future(throttle.acheck(org)) for _ in range(50)]
        if sent:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        compute(0.15)
        report(told(await asyncio.gather(*asked)))

run(main())
"""


@pytest.mark.parametrize("when", ["unsent", "sent"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_handler_that_computes_for_long_is_no_outage_for_the_others(
    fresh_server: ValkeyServer, loop: str, when: str
) -> None:
    """It takes longer than the deadline of the throttle calls that are pending."""
    with Proxy(fresh_server, delay=0.01) as proxy:
        setting = {**cache_setting(fresh_server), "LOCATION": proxy.url}
        with Program(HELPERS + ONE_HANDLER, {"default": setting}, loop) as program:
            outcomes = rounds(program, when)
    admitted, sources = outcomes[-1]
    assert set(sources) <= {"server", "deny_cache"}, outcomes
    assert admitted == 5, outcomes


BUSY = """
async def main():
    before = await cache.aexecute("CLIENT", "ID")
    asked = [asyncio.ensure_future(cache.aexecute("INCR", "n")) for _ in range(8)]
    await asyncio.sleep(0)
    compute(wait)
    results = await asyncio.gather(*asked, return_exceptions=True)
    report([[repr(result) for result in results], await cache.aexecute("CLIENT", "ID") == before])

run(main())
"""


# It is reached through a proxy, and nodes of a cluster say where they are themselves.
@pytest.mark.one_server
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_is_busy_for_longer_than_the_time_out_loses_nothing(server: ValkeyServer, loop: str) -> None:
    # The replies are not there yet when the loop comes back and sends.
    with Proxy(server, delay=0.01) as proxy:
        setting = {**cache_setting(server, RESPONSE_TIMEOUT=RESPONSE_TIMEOUT), "LOCATION": proxy.url}
        results, same = run_program(HELPERS + f"wait = {HELD}\n" + BUSY, {"default": setting}, loop)
    assert results == [str(number) for number in range(1, 9)]
    assert same, "the connection was reset"
    assert server.execute("GET", "n") == b"8"


STOPPED_UNSENT = """
async def main():
    before = await cache.aexecute("CLIENT", "ID")
    asked = [asyncio.ensure_future(cache.aexecute("INCR", "n")) for _ in range(8)]

    async def stop():
        # Those above are submitted, and the iteration that would send them is not over.
        os.kill(os.getpid(), signal.SIGSTOP)

    await asyncio.gather(stop(), *asked, return_exceptions=True)
    results = [each.exception() or each.result() for each in asked]
    report([[repr(result) for result in results], await cache.aexecute("CLIENT", "ID") == before])

report("ready")
run(main())
"""


def wait_until_stopped(pid: int) -> None:
    stat = Path(f"/proc/{pid}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", what="the program is stopped")


# It is reached through a proxy, and nodes of a cluster say where they are themselves.
@pytest.mark.one_server
@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_stopped_before_it_sends_loses_nothing(server: ValkeyServer, loop: str) -> None:
    """As a debugger stops it, or a container whose CPU time is used up."""
    with Proxy(server, delay=0.01) as proxy:
        setting = {**cache_setting(server, RESPONSE_TIMEOUT=RESPONSE_TIMEOUT), "LOCATION": proxy.url}
        with Program(HELPERS + STOPPED_UNSENT, {"default": setting}, loop) as program:
            assert program.report() == "ready"
            wait_until_stopped(program.pid)
            threading.Event().wait(HELD)
            os.kill(program.pid, signal.SIGCONT)
            results, same = program.report()
            program.end()
    assert results == [str(number) for number in range(1, 9)]
    assert same, "the connection was reset"
    assert server.execute("GET", "n") == b"8"


STOPPED_SENT = """
results = []

async def main():
    asked = [cache.aexecute("INCR", f"k{number}") for number in range(8)]
    results.extend(await asyncio.gather(*asked, return_exceptions=True))

def blocking(number):
    try:
        results.append(cache.execute("INCR", f"k{number}"))
    except exceptions.VcacheError as error:
        results.append(error)

cache.execute("GET", "warm")
if _request["loop"] == "threads":
    in_threads(8, blocking)
else:
    run(main())
report([repr(result) for result in results])
"""


@pytest.mark.parametrize("form", ["threads", "asyncio"])
def test_what_was_answered_while_the_process_was_stopped_is_no_time_out(server: ValkeyServer, form: str) -> None:
    answers = threading.Event()

    def answer_when_told(peer: Peer) -> None:
        peer.shake_hands()
        for command in peer.commands():
            if command[0] == b"INCR":
                answers.wait(30)
                peer.send(b":1\r\n")
            else:
                peer.send(b"_\r\n")

    with FakeServer(answer_when_told) as fake:
        setting = {**cache_setting(server, RESPONSE_TIMEOUT=2 * RESPONSE_TIMEOUT), "LOCATION": fake.url}
        with Program(STOPPED_SENT, {"default": setting}, form) as program:
            # The fake server takes a command off the socket when it has answered the one before.
            wait_until(lambda: fake.received("INCR"), interval=0.001)
            os.kill(program.pid, signal.SIGSTOP)
            wait_until_stopped(program.pid)
            answers.set()
            threading.Event().wait(2 * HELD)
            os.kill(program.pid, signal.SIGCONT)
            assert program.report() == ["1"] * 8
            program.end()
        assert fake.accepted == 1
        assert len(fake.received("INCR")) == 8


def computes_until(fake: FakeServer, seen: list[bytes], keys: set[bytes]) -> None:
    """Holds the loop until these keys have reached the server, or for five seconds."""

    def arrived() -> list[bytes]:
        return [command[1] for _, command in fake.received()]

    # What did arrive says more than that it was not all.
    with contextlib.suppress(AssertionError):
        wait_until(lambda: keys <= set(arrived()), timeout=5.0)
    seen.extend(arrived())


def test_calls_are_sent_while_the_loop_computes(run: Any) -> None:
    """A call that has waited for a millisecond goes out when another one is submitted, in the midst of an iteration."""
    with FakeServer(answer_keys) as fake:
        cache = make_cache(fake.url, RESPONSE_TIMEOUT=60.0)
        seen: list[bytes] = []

        async def request(number: int) -> bytes:
            threading.Event().wait(0.002)
            return await cache.aexecute("GET", f"k{number}")

        async def look() -> None:
            computes_until(fake, seen, {b"k0", b"k1", b"k2"})

        async def main() -> list[Any]:
            await cache.aexecute("GET", "warm")
            requests = [asyncio.ensure_future(request(number)) for number in range(4)]
            await asyncio.gather(look(), *requests)
            return [each.result() for each in requests]

        # The one that looks is created last, so that it runs behind the others in the same iteration.
        assert run(main()) == [b"k0", b"k1", b"k2", b"k3"]
        assert {b"k0", b"k1", b"k2"} <= set(seen), "they waited for the end of the iteration"
        assert fake.accepted == 1


def test_many_unsent_bytes_are_sent_at_once(run: Any) -> None:
    """32 KiB that are not sent go out, however quickly they came together."""
    with FakeServer(answer_keys) as fake:
        cache = make_cache(fake.url, RESPONSE_TIMEOUT=60.0)
        seen: list[bytes] = []
        value = bytes(8 * 1024)

        async def look() -> None:
            computes_until(fake, seen, {f"k{number}".encode() for number in range(4)})

        async def main() -> None:
            await cache.aexecute("GET", "warm")
            requests = [asyncio.ensure_future(cache.aexecute("SET", f"k{number}", value)) for number in range(10)]
            await asyncio.gather(look(), *requests)

        run(main())
        assert {b"k0", b"k1", b"k2", b"k3"} <= set(seen), "they waited for the end of the iteration"
        assert len(fake.received("SET")) == 10
