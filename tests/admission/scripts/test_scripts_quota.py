"""Quotas: exact counts within a window, their modes, the window's edges, and refunds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lua import START, TAG, Scripts
from model import (
    ADMITTED,
    CHECK_ONLY,
    CROSSING,
    DUPLICATE,
    REFUSED,
    SHADOW,
    STALE,
    STRICT,
    Admission,
    Dedupe,
    Quota,
    Reply,
)
from support.resp import ServerError

HOUR = 3_600_000
FIRST = START // 1000 // HOUR * HOUR
KEY = f"{TAG}:q:events:{FIRST // 1000}"
HOURLY = Quota(KEY, 10, FIRST, FIRST + HOUR)
MARKER = f"{TAG}:r:0123456789abcdef"


def consume(scripts: Scripts, quota: Quota = HOURLY, cost: int = 1) -> Reply:
    return scripts.admit(Admission(cost, (), (quota,)))


@pytest.mark.parametrize(
    ("mode", "limit", "costs", "verdicts", "used"),
    [
        (STRICT, 10, [4, 4, 4, 2, 1], [1, 1, 0, 1, 0], [4, 8, 8, 10, 10]),
        (STRICT, 10, [0, 10, 0], [1, 1, 0], [0, 10, 10]),
        (STRICT, 0, [0, 1], [0, 0], [0, 0]),
        (STRICT, -1, [0, 7, 2**52], [1, 1, 1], [0, 7, 7 + 2**52]),
        (CROSSING, 10, [9, 100, 1, 0], [1, 1, 0, 0], [9, 109, 109, 109]),
        (CROSSING, 10, [11], [1], [11]),
        (CROSSING, 0, [1], [0], [0]),
        (CHECK_ONLY, 10, [10, 10, 11, 0], [1, 1, 0, 1], [0, 0, 0, 0]),
        (SHADOW, 10, [10, 1, 100, 0], [1, 1, 1, 1], [10, 11, 111, 111]),
        (SHADOW, 0, [1], [1], [1]),
    ],
)
def test_each_mode_admits_and_counts_in_its_way(
    timeless: Scripts, mode: int, limit: int, costs: list[int], verdicts: list[int], used: list[int]
) -> None:
    quota = replace(HOURLY, mode=mode, limit=limit)
    replies = [consume(timeless, quota, cost) for cost in costs]
    assert [reply.verdict for reply in replies] == verdicts
    assert [reply.quotas[0] for reply in replies] == used


def test_a_window_begins_with_its_first_microsecond_and_ends_before_its_last(timeless: Scripts) -> None:
    for now, verdict in [
        (FIRST * 1000 - 1, STALE),
        (FIRST * 1000, ADMITTED),
        ((FIRST + HOUR) * 1000 - 1, ADMITTED),
        ((FIRST + HOUR) * 1000, STALE),
    ]:
        timeless.move_clock(now)
        before = timeless.snapshot()
        reply = consume(timeless)
        assert reply.verdict == verdict
        if verdict == STALE:
            assert reply == (STALE, 1, now, "", "", (), (), None)
            assert timeless.snapshot() == before


def test_the_first_stale_window_is_named(timeless: Scripts) -> None:
    stale = Quota(f"{TAG}:q:old", 10, FIRST - HOUR, FIRST)
    assert timeless.admit(Admission(1, (), (HOURLY, stale, replace(stale, key="{v00}:q:b")))).rule == 2
    assert timeless.snapshot() == []


def test_a_quota_of_each_window_counts_afresh(timeless: Scripts) -> None:
    assert consume(timeless, cost=10).verdict == ADMITTED
    assert consume(timeless).verdict == REFUSED
    timeless.move_clock((FIRST + HOUR) * 1000)
    following = Quota(f"{TAG}:q:events:{(FIRST + HOUR) // 1000}", 10, FIRST + HOUR, FIRST + 2 * HOUR)
    assert consume(timeless, following).quotas == (1,)


def test_a_counter_is_kept_after_its_window(scripts: Scripts) -> None:
    seconds, _ = scripts.server.execute("TIME")
    start = int(seconds) * 1000 - HOUR
    quota = Quota(KEY, 10, start, start + 2 * HOUR, keep=5 * HOUR)
    for _ in range(2):
        consume(scripts, quota)
        assert abs(scripts.server.execute("PEXPIRETIME", KEY) - (quota.end + quota.keep)) <= 1


def test_limits_may_change_at_any_time(timeless: Scripts) -> None:
    consume(timeless, cost=8)
    assert consume(timeless, replace(HOURLY, limit=5)).verdict == REFUSED
    assert consume(timeless, replace(HOURLY, limit=-1), 100).quotas == (108,)
    assert consume(timeless, replace(HOURLY, limit=109)).quotas == (109,)


@pytest.mark.parametrize("mode", [STRICT, CROSSING, SHADOW])
def test_a_counter_never_passes_what_is_exact(timeless: Scripts, mode: int) -> None:
    quota = replace(HOURLY, limit=-1 if mode == STRICT else 2**53 - 1, mode=mode)
    assert consume(timeless, quota, 2**53 - 2).verdict == ADMITTED
    before = timeless.snapshot()
    with pytest.raises(ServerError, match=r"would pass 2\^53"):
        consume(timeless, quota, 2)
    assert timeless.snapshot() == before
    assert consume(timeless, quota).quotas == (2**53 - 1,)


def test_a_crossing_quota_that_is_used_up_waits_for_its_window_whatever_the_cost(timeless: Scripts) -> None:
    crossing = replace(HOURLY, limit=1, mode=CROSSING)
    daily = Quota(f"{TAG}:q:day", 3, FIRST, FIRST + 24 * HOUR)
    timeless.admit(Admission(2, (), (crossing, daily)))
    # Two more fit neither; the day ends later than the hour. Four would never fit the day.
    assert timeless.admit(Admission(2, (), (crossing, daily))).rule == 2
    assert timeless.admit(Admission(4, (), (daily, crossing))).rule == 1


def test_a_duplicate_is_none_the_less_one_when_its_cost_no_longer_fits_the_counter(timeless: Scripts) -> None:
    call = Admission(2**53 - 1, (), (replace(HOURLY, limit=-1),), dedupe=Dedupe(f"{TAG}:d"))
    assert [timeless.admit(call).verdict for _ in range(2)] == [ADMITTED, DUPLICATE]


# Refunds.


def test_a_refund_twice_is_a_refund_once(timeless: Scripts) -> None:
    consume(timeless, cost=7)
    assert timeless.refund(MARKER, [KEY], 3) == [1, 4]
    before = timeless.snapshot()
    assert timeless.refund(MARKER, [KEY], 3) == [0, 4]
    assert timeless.refund(MARKER, [KEY], 3) == [0, 4]
    assert timeless.snapshot() == before


def test_refunds_of_several_receipts_add_up(timeless: Scripts) -> None:
    consume(timeless, cost=7)
    for number in range(7):
        assert timeless.refund(f"{MARKER}{number}", [KEY], 1) == [1, 6 - number]
    assert consume(timeless, cost=10).verdict == ADMITTED


def test_a_refund_never_goes_below_nothing(timeless: Scripts) -> None:
    consume(timeless, cost=2)
    assert timeless.refund(MARKER, [KEY], 2**53) == [1, 0]
    assert consume(timeless).quotas == (1,)


def test_a_refund_makes_no_counter(timeless: Scripts) -> None:
    consume(timeless)
    gone = f"{TAG}:q:gone"
    assert timeless.refund(MARKER, [gone, KEY], 1) == [1, 0, 0]
    assert timeless.server.execute("EXISTS", gone) == 0


def test_a_refund_keeps_the_time_to_live(scripts: Scripts) -> None:
    seconds, _ = scripts.server.execute("TIME")
    start = int(seconds) * 1000 - HOUR
    consume(scripts, Quota(KEY, 10, start, start + 2 * HOUR), 5)
    expiry = scripts.server.execute("PEXPIRETIME", KEY)
    assert scripts.refund(MARKER, [KEY], 2) == [1, 3]
    assert scripts.server.execute("PEXPIRETIME", KEY) == expiry
    # The marker lives as long as there is something that could be refunded again.
    assert 0 <= scripts.server.execute("PEXPIRETIME", MARKER) - expiry <= 5


def test_the_marker_is_kept_as_long_as_it_is_told(scripts: Scripts) -> None:
    assert scripts.refund(MARKER, [KEY], 1, HOUR) == [0, 0]
    assert HOUR - 60_000 < scripts.server.execute("PTTL", MARKER) <= HOUR


@pytest.mark.parametrize("cost", ["-1", "0.5", "nan", "many"])
def test_a_refund_of_no_whole_number_is_an_error(timeless: Scripts, cost: str) -> None:
    consume(timeless)
    before = timeless.snapshot()
    with pytest.raises(ServerError, match=r"^ERR"):
        timeless.run("refund", [MARKER, KEY], [1000, cost])
    assert timeless.snapshot() == before
