"""All of it in one call: everything is written or nothing, an event is written once, a full stream says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lua import START, TAG, Scripts, admit_arguments
from model import ADMITTED, DUPLICATE, REFUSED, STALE, Admission, Dedupe, Quota, Stream, Throttle
from support.resp import ServerError

SECOND = 1_000_000
NOW = START // 1000
ORG = Throttle(f"{TAG}:t:org:1", 1000, SECOND, 1000)
PROJECT = Throttle(f"{TAG}:t:project:42", 100, SECOND, 5)
MONTH = Quota(f"{TAG}:q:events:1", 1000, NOW - 1000, NOW + 100_000_000)
DAY = Quota(f"{TAG}:q:bytes:1", 7, NOW - 1000, NOW + 10_000_000)
STREAM = Stream(f"{TAG}:s:events", 3)
DEDUPE = Dedupe(f"{TAG}:d:event-1")
GATE = Admission(1, (ORG, PROJECT), (MONTH, DAY), STREAM, ("payload", b"\x00\xff\r\n", "org", "1"), DEDUPE, "one two")


def again(call: Admission, name: str) -> Admission:
    return replace(call, dedupe=Dedupe(f"{TAG}:d:{name}"), receipt=name)


def entries(scripts: Scripts) -> list:
    found = scripts.server.execute("XRANGE", STREAM.key, "-", "+")
    assert isinstance(found, list)
    return found


def test_an_admission_charges_and_writes_everything(timeless: Scripts) -> None:
    reply = timeless.admit(GATE)
    assert reply._replace(id="") == (
        ADMITTED,
        0,
        START,
        "",
        "one two",
        ((999, 0, 1000), (4, 0, 10_000)),
        (1, 1),
        1,
    )
    assert entries(timeless) == [[reply.id.encode(), [b"payload", b"\x00\xff\r\n", b"org", b"1"]]]
    assert timeless.server.execute("GET", DEDUPE.key) == f"{reply.id} one two".encode()
    assert timeless.peek(GATE.throttles, GATE.quotas) == [START, 999, 1000, 4, 10_000, 1, 1]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"cost": 6}, 2),
        ({"cost": 1001}, 1),
        ({"throttles": (replace(ORG, burst=1), PROJECT), "cost": 2}, 1),
        ({"throttles": (ORG,), "cost": 8}, 3),
        ({"throttles": (ORG,), "quotas": (replace(MONTH, limit=1), DAY)}, 2),
        ({"throttles": (), "quotas": (), "stream": replace(STREAM, bound=1)}, 1),
        ({"stream": replace(STREAM, bound=1)}, 5),
        ({"stream": replace(STREAM, bound=1), "quotas": (MONTH, replace(DAY, limit=1))}, 4),
    ],
)
def test_what_one_rule_refuses_leaves_every_key_byte_for_byte(timeless: Scripts, change: dict, rule: int) -> None:
    timeless.admit(GATE)
    before = timeless.snapshot()
    refused = timeless.admit(again(replace(GATE, **change), "other"))
    assert (refused.verdict, refused.rule, refused.id, refused.receipt) == (REFUSED, rule, "", "")
    assert timeless.snapshot() == before


def test_refusals_and_admissions_may_alternate(timeless: Scripts) -> None:
    calls = [again(replace(GATE, stream=replace(STREAM, bound=0)), str(number)) for number in range(9)]
    assert [timeless.admit(call).verdict for call in calls] == [ADMITTED] * 5 + [REFUSED] * 4
    timeless.move_clock(START + SECOND)
    replies = [timeless.admit(call) for call in calls[5:]]
    assert [(reply.verdict, reply.rule) for reply in replies] == [(ADMITTED, 0)] * 2 + [(REFUSED, 4)] * 2
    assert len(entries(timeless)) == 7


# Dedupe.


def test_a_duplicate_is_charged_once_and_answers_the_first(timeless: Scripts) -> None:
    first = timeless.admit(GATE)
    before = timeless.snapshot()
    for call in (GATE, replace(GATE, receipt="another"), replace(GATE, cost=3, fields=("payload", "other"))):
        reply = timeless.admit(call)
        assert (reply.verdict, reply.rule, reply.id, reply.receipt) == (DUPLICATE, 0, first.id, "one two")
        assert reply.quotas == (1, 1)
        assert reply.depth == 1
    assert timeless.snapshot() == before


def test_a_duplicate_is_one_whatever_would_refuse_it(timeless: Scripts) -> None:
    first = timeless.admit(GATE)
    timeless.move_clock((DAY.end + 1) * 1000)
    timeless.server.execute("SET", DEDUPE.key, f"{first.id} one two")
    reply = timeless.admit(replace(GATE, cost=2000, stream=replace(STREAM, bound=1)))
    assert (reply.verdict, reply.rule, reply.id) == (DUPLICATE, 0, first.id)


def test_what_was_refused_is_no_duplicate_later(timeless: Scripts) -> None:
    timeless.admit(Admission(5, (PROJECT,)))
    assert timeless.admit(GATE).verdict == REFUSED
    timeless.move_clock(START + SECOND)
    assert timeless.admit(GATE).verdict == ADMITTED


def test_an_id_is_remembered_as_long_as_it_is_told(scripts: Scripts, timeless: Scripts) -> None:
    scripts.admit(Admission(1, (ORG,), dedupe=replace(DEDUPE, keep=100_000)))
    assert 90_000 < scripts.server.execute("PTTL", DEDUPE.key) <= 100_000
    call = Admission(1, (PROJECT,), dedupe=replace(DEDUPE, key=f"{TAG}:d:x", keep=1))
    assert timeless.admit(call).verdict == ADMITTED
    assert timeless.admit(call).verdict == DUPLICATE
    timeless.move_clock(START + 2000)
    assert timeless.admit(call).verdict == ADMITTED


def test_without_a_stream_the_receipt_is_remembered(timeless: Scripts) -> None:
    call = Admission(1, (PROJECT,), dedupe=DEDUPE, receipt="a b  c ")
    timeless.admit(call)
    assert timeless.admit(replace(call, receipt="z"))[:5] == (DUPLICATE, 0, START, "", "a b  c ")


# Costs of nothing.


def test_a_cost_of_nothing_writes_the_payload_and_charges_nothing(timeless: Scripts) -> None:
    free = replace(GATE, cost=0)
    reply = timeless.admit(free)
    assert (reply.verdict, reply.depth, reply.quotas) == (ADMITTED, 1, (0, 0))
    assert timeless.peek(GATE.throttles, GATE.quotas) == [START, 1000, 0, 5, 0, 0, 0]
    assert timeless.admit(free).verdict == DUPLICATE
    assert len(entries(timeless)) == 1


def test_a_cost_of_nothing_without_a_payload_writes_nothing(timeless: Scripts) -> None:
    before = timeless.snapshot()
    assert timeless.admit(replace(GATE, cost=0, stream=None)).verdict == ADMITTED
    assert timeless.snapshot() == before


# A cost for each rule.


def test_each_rule_is_charged_its_own(timeless: Scripts) -> None:
    reply = timeless.admit(replace(GATE, cost=(1, 2, 0, 4)))
    assert (reply.verdict, reply.quotas) == (ADMITTED, (0, 4))
    assert [state.remaining for state in reply.throttles] == [999, 3]
    assert timeless.server.execute("EXISTS", GATE.quotas[0].key) == 0


def test_a_rule_at_no_cost_refuses_nothing(timeless: Scripts) -> None:
    timeless.admit(replace(GATE, cost=5, dedupe=None))
    shut = replace(GATE, dedupe=None, quotas=(replace(MONTH, limit=0), DAY))
    assert timeless.admit(replace(shut, cost=(1, 0, 1, 1))).rule == 3
    assert timeless.admit(replace(shut, cost=(1, 0, 0, 1))).verdict == ADMITTED


@pytest.mark.parametrize("costs", ["1,1,1,", "1,1,1,1,1,", ",", "1,1,1,1", "1,1,x,1,", "1,1,-1,1,", "1,1,0.5,1,"])
def test_costs_that_are_no_numbers_or_not_as_many_as_rules_are_an_error(timeless: Scripts, costs: str) -> None:
    before = timeless.snapshot()
    args = admit_arguments(GATE)
    args[0] = costs
    with pytest.raises(ServerError, match=r"^ERR .*cost"):
        timeless.run("admit", GATE.keys, args)
    assert timeless.snapshot() == before


# Streams.


def test_a_full_stream_refuses_until_it_is_worked_off(timeless: Scripts) -> None:
    call = Admission(1, (), (), STREAM)
    assert [timeless.admit(call).depth for _ in range(3)] == [1, 2, 3]
    refused = timeless.admit(call)
    assert (refused.verdict, refused.rule, refused.depth) == (REFUSED, 1, 3)
    timeless.server.execute("XTRIM", STREAM.key, "MAXLEN", 2)
    assert timeless.admit(call).verdict == ADMITTED


def test_a_bound_of_nothing_is_none(timeless: Scripts) -> None:
    call = Admission(1, (), (), Stream(STREAM.key, 0, trims=True))
    assert [timeless.admit(call).depth for _ in range(5)] == [1, 2, 3, 4, 5]


def test_trimming_keeps_the_newest_and_never_refuses(timeless: Scripts) -> None:
    call = Admission(1, (), (), Stream(STREAM.key, 100, trims=True))
    replies = [timeless.admit(call) for _ in range(1000)]
    assert {reply.verdict for reply in replies} == {ADMITTED}
    # The server drops whole nodes only, of 100 entries each.
    assert 100 <= replies[-1].depth < 200
    assert replies[-1].depth == len(entries(timeless))
    assert entries(timeless)[-1][0].decode() == replies[-1].id


def test_large_payloads_and_many_fields_are_written_whole(timeless: Scripts) -> None:
    fields = tuple(f"f{number}" if number % 2 == 0 else b"\x00" * 10_000 for number in range(400))
    timeless.admit(Admission(1, (), (), STREAM, fields))
    written = entries(timeless)[0][1]
    assert written == [part if isinstance(part, bytes) else part.encode() for part in fields]


# Windows.


def test_a_stale_window_stops_everything(timeless: Scripts) -> None:
    before = timeless.snapshot()
    reply = timeless.admit(replace(GATE, quotas=(MONTH, replace(DAY, end=NOW))))
    assert reply == (STALE, 4, START, "", "", (), (), None)
    assert timeless.snapshot() == before


def test_a_gate_of_nothing_admits(timeless: Scripts) -> None:
    assert timeless.admit(Admission()) == (ADMITTED, 0, START, "", "receipt", (), (), None)


@pytest.mark.parametrize("position", range(4))
def test_arguments_that_are_no_numbers_are_an_error(timeless: Scripts, position: int) -> None:
    before = timeless.snapshot()
    args = [1, 1, 0, 0, 0, "", 10, SECOND, 10]
    args[[0, 6, 7, 8][position]] = "ten"
    with pytest.raises(ServerError, match=r"^ERR"):
        timeless.run("admit", [ORG.key], args)
    assert timeless.snapshot() == before
