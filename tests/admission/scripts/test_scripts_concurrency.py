"""Eight processes with fifty tasks each on one server. How much went through is counted from the replies, by the
server's clock, so that nothing here depends on how fast the machine is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from lua import TAG, Scripts, admit_arguments
from model import ADMITTED, DUPLICATE, REFUSED, Admission, Dedupe, Quota, Stream, Throttle
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer

PROCESSES = 8
TASKS = 50
SECOND = 1_000_000

_PROGRAM = """
async def call(work, keys, args):
    reply = await cache.aexecute("EVALSHA", work["sha"], len(keys), *keys, *args)
    return [part.decode() if isinstance(part, bytes) else part for part in reply]

# Each for as long as the server's clock says.
async def for_a_while(work, number):
    replies = [await call(work, work["keys"], work["args"])]
    while replies[-1][2] < replies[0][2] + work["micros"]:
        replies.append(await call(work, work["keys"], work["args"]))
    return [[reply[0], reply[2]] for reply in replies]

# Each a number of times.
async def each(work, number):
    return [await call(work, work["keys"], work["args"]) for turn in range(work["turns"])]

# All do the same things, each beginning with another one. `which` key is that of the thing.
async def all_the_same(work, number):
    replies = []
    for turn in range(work["turns"]):
        thing = (turn + number * 7) % work["turns"]
        keys = list(work["keys"])
        keys[work["which"]] += str(thing)
        replies.append([thing, *await call(work, keys, work["args"])])
    return replies

def next_work():
    line = b""
    while not line.endswith(b"\\n"):
        line += os.read(0, 65536)
    return json.loads(line)

async def main():
    await cache.aexecute("PING")
    report("ready")
    while work := await asyncio.to_thread(next_work):
        do = globals()[work["do"]]
        report(await asyncio.gather(*(do(work, number) for number in range(work["tasks"]))))

run(main())
"""


@pytest.fixture(scope="module")
def programs(script_server: ValkeyServer) -> Iterator[list[Program]]:
    setting = {"default": cache_setting(script_server)}
    with ExitStack() as stack:
        programs = [
            stack.enter_context(Program(_PROGRAM, setting, ("asyncio", "uvloop")[number % 2]))
            for number in range(PROCESSES)
        ]
        for program in programs:
            assert program.report() == "ready"
        yield programs
        for program in programs:
            program.tell("null\n")
        for program in programs:
            program.end()


@pytest.fixture
def crowd(programs: list[Program], scripts: Scripts) -> Callable[..., list[list[Any]]]:
    """Has every task of every process do something; the list of all replies."""

    def run(do: str, script: str, keys: list[str], args: list[Any], **work: Any) -> list[list[Any]]:
        whole = {"do": do, "sha": scripts.shas[script], "keys": keys, "args": args, "tasks": TASKS, **work}
        for program in programs:
            program.tell(json.dumps(whole) + "\n")
        reports = [program.report(120) for program in programs]
        return [reply for report in reports for task in report for reply in task]

    return run


def window() -> Quota:
    return Quota(f"{TAG}:q", 3001, 0, 2**42)


def test_a_throttle_lets_the_bound_through_and_hardly_less(crowd: Callable[..., list[list[Any]]]) -> None:
    limit, burst = 1000, 2000
    call = Admission(1, (Throttle(f"{TAG}:t", limit, SECOND, burst),))
    replies = crowd("for_a_while", "admit", call.keys, admit_arguments(call), micros=3_500_000)
    admitted = sorted(now for verdict, now in replies if verdict == ADMITTED)
    # In every window between two admissions: number <= burst + rate * W.
    slack = 0
    for number, now in enumerate(admitted):
        level = number * SECOND - limit * (now - admitted[0])
        slack = min(slack, level)
        assert level - slack + SECOND <= burst * SECOND
    # Demand was there at the last refusal, when less than a unit was left.
    refused = max(now for verdict, now in replies if verdict == REFUSED)
    until_then = sum(now <= refused for now in admitted)
    bound = burst + limit * (refused - admitted[0]) / SECOND
    assert 0.99 * bound <= until_then <= bound


def test_a_quota_admits_exactly_its_limit_and_nothing_of_a_gate_goes_astray(
    crowd: Callable[..., list[list[Any]]], scripts: Scripts
) -> None:
    # A unit takes over an hour to flow off, so what was charged can be read afterwards.
    throttle, quota, stream = Throttle(f"{TAG}:t", 1, 2**32, 2**20), window(), Stream(f"{TAG}:s")
    call = Admission(1, (throttle,), (quota,), stream)
    replies = crowd("each", "admit", call.keys, admit_arguments(call), turns=20)
    assert Counter(reply[0] for reply in replies) == {ADMITTED: 3001, REFUSED: PROCESSES * TASKS * 20 - 3001}
    assert scripts.peek((throttle,), (quota,))[1::2] == [2**20 - 3001, 3001]
    # Everybody who was admitted finds the entry that was promised, and no others are there.
    entries = scripts.server.execute("XRANGE", stream.key, "-", "+")
    assert sorted(entry[0].decode() for entry in entries) == sorted(reply[3] for reply in replies if reply[3])


def test_duplicates_are_charged_once_however_many_send_them(
    crowd: Callable[..., list[list[Any]]], scripts: Scripts
) -> None:
    quota, stream = window(), Stream(f"{TAG}:s")
    call = Admission(3, (), (quota,), stream, dedupe=Dedupe(f"{TAG}:d:", 3_600_000))
    replies = crowd("all_the_same", "admit", call.keys, admit_arguments(call), turns=60, which=2)
    verdicts = Counter((reply[0], reply[1]) for reply in replies)
    others = PROCESSES * TASKS - 1
    assert verdicts == {(event, each): 1 if each == ADMITTED else others for event in range(60) for each in (1, 2)}
    assert DUPLICATE == 2
    assert len({(reply[0], reply[4]) for reply in replies}) == 60
    assert scripts.peek((), (quota,))[1:] == [180]
    assert scripts.server.execute("XLEN", stream.key) == 60


def test_a_receipt_is_refunded_once_however_many_try(crowd: Callable[..., list[list[Any]]], scripts: Scripts) -> None:
    quota = window()
    scripts.admit(Admission(1000, (), (quota,)))
    replies = crowd("all_the_same", "refund", [f"{TAG}:r:", quota.key], [7, 1], turns=50, which=0)
    assert Counter(receipt for receipt, refunded, _ in replies if refunded) == {number: 1 for number in range(50)}
    assert scripts.peek((), (quota,))[1:] == [1000 - 350]
