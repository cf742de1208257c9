"""Eight processes with fifty tasks each on one server, which run the scripts or call the API. How much went through is
counted from the replies, by the server's clock. How fast the machine is does not matter, unless all of them stand still
for as long as a throttle's whole burst takes to flow back: two seconds at least.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from lua import TAG, Scripts, admit_arguments, read_reply
from model import ADMITTED, DUPLICATE, REFUSED, Admission, Dedupe, Quota, Stream, Throttle
from support.caches import cache_setting
from support.limits import where_it_is_noon
from support.programs import Program
from support.server import ValkeyServer

PROCESSES = 8
TASKS = 50
SECOND = 1_000_000

# What the API asks for below.
LIMIT, BURST = 100, 500
MONTHLY = 3001
# Each event is of one of six projects, and those of one of three organisations. A project may have 15 of its 20 events,
# and two of the organisations 25 of the 30 that their projects may have.
EVENTS, PROJECTS, ORGS, COST = 120, 6, 3, 2
OF_PROJECT, OF_ORG = 15, 25

_PROGRAM = (
    f"LIMIT, BURST, MONTHLY = {LIMIT}, {BURST}, {MONTHLY}\n"
    f"EVENTS, PROJECTS, ORGS, COST = {EVENTS}, {PROJECTS}, {ORGS}, {COST}\n"
    f"OF_PROJECT, OF_ORG, ZONE = {OF_PROJECT}, {OF_ORG}, {where_it_is_noon()!r}\n"
    + """
import struct
from django_vcache.admission import Gate, Quota, Stream, Throttle

# What a script packed is reported in hex.
async def call(work, keys, args):
    reply = await cache.aexecute("EVALSHA", work["shas"][work["script"]], len(keys), *keys, *args)
    return reply.hex() if isinstance(reply, bytes) else reply

# Each for as long as the server's clock says: verdicts and when they were given.
async def for_a_while(work, number):
    replies = []
    while not replies or replies[-1][2] < replies[0][2] + work["micros"]:
        packed = await call(work, work["keys"], work["args"])
        replies.append(struct.unpack_from(">3d", bytes.fromhex(packed)))
    return [[int(verdict), int(now)] for verdict, rule, now in replies]

# Each a number of times.
async def each(work, number):
    return [await call(work, work["keys"], work["args"]) for turn in range(work["turns"])]

# All do the same things, each beginning with another one: the thing and the reply. `which` key is that of the thing.
async def all_the_same(work, number):
    replies = []
    for turn in range(work["turns"]):
        thing = (turn + number * 7) % work["turns"]
        keys = list(work["keys"])
        keys[work["which"]] += str(thing)
        replies.append([thing, await call(work, keys, work["args"])])
    return replies

async def clock():
    seconds, micros = await cache.aexecute("TIME")
    return int(seconds) * 1_000_000 + int(micros)

throttle = Throttle("org", f"{LIMIT}/s", burst=BURST, deadline=None)

# Each until it is refused after the end: what the server's clock said before and after, and what was decided by whom.
async def by_a_throttle(work, number):
    decisions, after = [], await clock()
    while not decisions or decisions[-1][2] or after < work["end"]:
        before = after
        decision = await throttle.acheck(1)
        after = await clock()
        decisions.append([before, after, decision.allowed, decision.source])
    return decisions

gate = Gate(quotas=[Quota("events", MONTHLY, "month", timezone=ZONE)], deadline=None, owner="org")

# Each a number of times: what was decided by whom, and the receipt.
async def by_a_gate(work, number):
    decisions = [await gate.aadmit({"org": 1}) for turn in range(work["turns"])]
    return [[decision.allowed, decision.source, decision.receipt] for decision in decisions]

# A unit of a throttle takes a day to flow back.
whole = Gate(
    throttles=[Throttle("org", "1/d", burst=1000), Throttle("project", "1/d", burst=OF_PROJECT * COST)],
    quotas=[
        Quota("events", lambda scope: OF_ORG * COST if scope["org"] else -1, "month", timezone=ZONE),
        Quota("seen", -1, "month", key="project", timezone=ZONE),
    ],
    stream=Stream("events"),
    deny_cache=False,
    deadline=None,
    owner="org",
)

# All send the same events, each beginning with another one.
async def by_a_whole_gate(work, number):
    told = []
    for turn in range(EVENTS):
        event = (turn + number * 7) % EVENTS
        scope = {"org": event % ORGS, "project": event % PROJECTS}
        decision = await whole.aadmit(scope, payload=str(event), cost=COST, dedupe=f"event {event}")
        refused = decision.refused_by and decision.refused_by.rule
        told.append([event, decision.duplicate, decision.id, decision.receipt, refused, decision.source])
    return told

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
)


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
def crowd(programs: list[Program], scripts: Scripts) -> Callable[..., list[Any]]:
    """Has every task of every process do something; the list of all replies."""

    def run(do: str, **work: Any) -> list[Any]:
        whole = {"do": do, "shas": scripts.shas, "tasks": TASKS, **work}
        for program in programs:
            program.tell(json.dumps(whole) + "\n")
        reports = [program.report(120) for program in programs]
        return [reply for report in reports for task in report for reply in task]

    return run


def window() -> Quota:
    return Quota(f"{TAG}:q", 3001, 0, 2**42)


def check_bound(rule: Throttle, decisions: list[tuple[int, int, bool]], error: int = 0) -> None:
    """Never more than burst + rate * W, and hardly less. Each decision was at a moment between two, which may be wrong
    by some microseconds.
    """
    befores, afters = (sorted(times) for times in zip(*(row[:2] for row in decisions if row[2]), strict=True))
    first = befores[0]
    # The moments of admissions, put in order, are between these as well: the bound holds from any of them to any other.
    slack = 0
    for number, (before, after) in enumerate(zip(befores, afters, strict=True)):
        slack = min(slack, number * rule.period - rule.limit * (before - first))
        level = (number + 1) * rule.period - rule.limit * (after - first)
        assert level - slack <= rule.burst * rule.period + rule.limit * error
    # Demand was there whenever somebody was refused: less than a unit was left then.
    refused = [(before, after) for before, after, allowed in decisions if not allowed]
    assert refused
    for before, after in refused:
        assert bisect_right(befores, after) >= 0.99 * (rule.burst + rule.limit * (before - first) / rule.period)


def charge_burst(scripts: Scripts, rule: Throttle) -> list[tuple[int, int, bool]]:
    """All of the burst at a known moment. From then on nothing flows off in vain unless nobody asks for as long as the
    whole burst takes to flow back."""
    now = scripts.admit(Admission(rule.burst, (rule,))).now
    return [(now, now, True)] * rule.burst


def test_a_throttle_lets_the_bound_through_and_hardly_less(crowd: Callable[..., list[Any]], scripts: Scripts) -> None:
    rule = Throttle(f"{TAG}:t", 200, SECOND, 400)
    decisions = charge_burst(scripts, rule)
    call = Admission(1, (rule,))
    replies = crowd("for_a_while", script="admit", keys=call.keys, args=admit_arguments(call), micros=3_500_000)
    decisions += [(now, now, verdict == ADMITTED) for verdict, now in replies]
    check_bound(rule, decisions)


def test_a_quota_admits_exactly_its_limit_and_nothing_of_a_gate_goes_astray(
    crowd: Callable[..., list[Any]], scripts: Scripts
) -> None:
    # A unit takes over an hour to flow off, so what was charged can be read afterwards.
    throttle, quota, stream = Throttle(f"{TAG}:t", 1, 2**32, 2**20), window(), Stream(f"{TAG}:s")
    call = Admission(1, (throttle,), (quota,), stream)
    packed = crowd("each", script="admit", keys=call.keys, args=admit_arguments(call), turns=20)
    replies = [read_reply(call, bytes.fromhex(text)) for text in packed]
    assert Counter(reply.verdict for reply in replies) == {ADMITTED: 3001, REFUSED: PROCESSES * TASKS * 20 - 3001}
    assert scripts.peek((throttle,), (quota,))[1::2] == [2**20 - 3001, 3001]
    # Everybody who was admitted finds the entry that was promised, and no others are there.
    entries = scripts.server.execute("XRANGE", stream.key, "-", "+")
    assert sorted(entry[0].decode() for entry in entries) == sorted(reply.id for reply in replies if reply.id)


def test_duplicates_are_charged_once_however_many_send_them(crowd: Callable[..., list[Any]], scripts: Scripts) -> None:
    quota, stream = window(), Stream(f"{TAG}:s")
    call = Admission(3, (), (quota,), stream, dedupe=Dedupe(f"{TAG}:d:", 3_600_000))
    packed = crowd("all_the_same", script="admit", keys=call.keys, args=admit_arguments(call), turns=60, which=2)
    replies = [(event, read_reply(call, bytes.fromhex(text))) for event, text in packed]
    verdicts = Counter((event, reply.verdict) for event, reply in replies)
    others = PROCESSES * TASKS - 1
    assert verdicts == {(event, each): 1 if each == ADMITTED else others for event in range(60) for each in (1, 2)}
    assert DUPLICATE == 2
    assert len({(event, reply.id) for event, reply in replies}) == 60
    assert scripts.peek((), (quota,))[1:] == [180]
    assert scripts.server.execute("XLEN", stream.key) == 60


def test_a_receipt_is_refunded_once_however_many_try(crowd: Callable[..., list[Any]], scripts: Scripts) -> None:
    quota = window()
    scripts.admit(Admission(1000, (), (quota,)))
    replies = crowd("all_the_same", script="refund", keys=[f"{TAG}:r:", quota.key], args=[1, 7], turns=50, which=0)
    assert Counter(receipt for receipt, (refunded, _) in replies if refunded) == {number: 1 for number in range(50)}
    assert scripts.peek((), (quota,))[1:] == [1000 - 350]


# The API, with what it adds to the scripts.


def test_the_api_of_a_throttle_lets_the_bound_through_and_hardly_less(
    crowd: Callable[..., list[Any]], scripts: Scripts
) -> None:
    rule = Throttle(f"vcache:2:{TAG}:t:org:org=1", LIMIT, SECOND, BURST)
    decisions = charge_burst(scripts, rule)
    answers = crowd("by_a_throttle", end=decisions[0][0] + 3 * SECOND)
    decisions += [(before, after, allowed) for before, after, allowed, _ in answers]
    # Here the moments are between two readings of the server's clock, and that of Valkey 9.1 steps back now and then.
    check_bound(rule, decisions, error=1000)
    # The deny cache refuses some of them, if the machine is not so slow that a refusal is over when it comes.
    assert {source for _, _, allowed, source in answers if allowed} == {"server"}
    assert {source for _, _, allowed, source in answers if not allowed} <= {"server", "deny_cache"}


def test_the_api_of_a_gate_admits_exactly_its_quota(crowd: Callable[..., list[Any]], scripts: Scripts) -> None:
    decisions = crowd("by_a_gate", turns=20)
    assert Counter(allowed for allowed, _, _ in decisions) == {
        True: MONTHLY,
        False: PROCESSES * TASKS * 20 - MONTHLY,
    }
    assert {source for allowed, source, _ in decisions if allowed} == {"server"}
    assert {source for allowed, source, _ in decisions if not allowed} == {"server", "deny_cache"}
    assert len({receipt for allowed, _, receipt in decisions if allowed}) == MONTHLY
    [key] = scripts.server.keys()
    assert key.startswith(f"vcache:2:{TAG}:q:events:org=1:".encode())
    assert scripts.server.execute("GET", key) == str(MONTHLY).encode()


def test_the_api_of_a_whole_gate_charges_and_writes_each_event_once_or_not_at_all(
    crowd: Callable[..., list[Any]], scripts: Scripts
) -> None:
    told = crowd("by_a_whole_gate")
    assert {source for *_, source in told} == {"server"}
    everybody = PROCESSES * TASKS
    outcomes = {event: Counter[Any]() for event in range(EVENTS)}
    for event, duplicate, entry, receipt, refused, _ in told:
        outcomes[event]["refused" if refused else (duplicate, entry, receipt)] += 1
    admitted = {}
    for event, outcome in outcomes.items():
        # A limit that is used up stays so, hence an event is admitted when it is first sent, or never.
        if outcome != {"refused": everybody}:
            [(_, entry, receipt)] = {each for each in outcome if each[0] is False}
            assert outcome == {(False, entry, receipt): 1, (True, entry, receipt): everybody - 1}
            admitted[event] = (entry, receipt)
    assert {refused for *_, refused, _ in told if refused} == {"project", "events"}
    assert len({receipt for _, receipt in admitted.values()}) == len(admitted)

    # Each is one entry, under the id that everybody was told.
    entries = scripts.server.execute("XRANGE", f"vcache:2:{TAG}:s:events", "-", "+")
    assert {int(fields[1]): entry.decode() for entry, fields in entries} == {
        event: entry for event, (entry, _) in admitted.items()
    }
    assert len(entries) == len(admitted)

    # Each is charged once to each of its limits, and what was refused to none.
    of_org = Counter(event % ORGS for event in admitted)
    of_project = Counter(event % PROJECTS for event in admitted)
    assert of_org == {0: 2 * OF_PROJECT, 1: OF_ORG, 2: OF_ORG}
    assert max(of_project.values()) <= OF_PROJECT
    day = 86_400 * SECOND
    throttles = tuple(Throttle(f"vcache:2:{TAG}:t:org:org={org}", 1, day, 1000) for org in range(ORGS)) + tuple(
        Throttle(f"vcache:2:{TAG}:t:project:project={project}", 1, day, OF_PROJECT * COST)
        for project in range(PROJECTS)
    )
    assert scripts.peek(throttles)[1::2] == [
        *(1000 - COST * of_org[org] for org in range(ORGS)),
        *(COST * (OF_PROJECT - of_project[project]) for project in range(PROJECTS)),
    ]
    counts = {
        key.decode().rpartition(":")[0]: int(scripts.server.execute("GET", key))
        for key in scripts.server.keys("vcache:*:q:*")
    }
    assert counts == {
        **{f"vcache:2:{TAG}:q:events:org={org}": COST * of_org[org] for org in range(ORGS)},
        **{f"vcache:2:{TAG}:q:seen:project={project}": COST * of_project[project] for project in range(PROJECTS)},
    }
