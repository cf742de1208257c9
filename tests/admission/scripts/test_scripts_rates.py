"""Exactness: whatever the rate, a throttle lets through precisely burst + rate * W, at steps that divide nothing."""

from __future__ import annotations

import pytest
from lua import START, TAG, Scripts
from model import ADMITTED, Admission, Throttle

SECOND = 1_000_000


@pytest.mark.parametrize(
    ("limit", "period", "burst", "step", "steps"),
    [
        (10, SECOND, 10, 33_331, 300),
        (999, SECOND, 5, 1009, 600),
        (1001, SECOND, 50, 1009, 600),
        (12_345, SECOND, 100, 97, 1500),
        (300_000, SECOND, 10, 7, 1200),
        (3_000_000, SECOND, 10, 1, 500),
        (86_399, 86_400 * SECOND, 3, 1_000_003, 400),
        (7, 3 * SECOND, 4, 100_003, 500),
    ],
)
def test_what_is_let_through_is_the_bound_exactly(
    timeless: Scripts, limit: int, period: int, burst: int, step: int, steps: int
) -> None:
    call = Admission(1, (Throttle(f"{TAG}:t", limit, period, burst),))
    admitted = 0
    for turn in range(steps):
        elapsed = turn * step
        timeless.move_clock(START + elapsed)
        # Demand is always there, one unit at a time, until it refuses.
        while timeless.admit(call).verdict == ADMITTED:
            admitted += 1
        assert admitted == burst + elapsed * limit // period


@pytest.mark.parametrize(("limit", "burst"), [(1000, 1000), (300_000, 300_000), (300_000, 1000)])
def test_large_costs_are_counted_as_exactly_as_units(timeless: Scripts, limit: int, burst: int) -> None:
    rule = Throttle(f"{TAG}:t", limit, SECOND, burst)
    admitted = 0
    for turn in range(200):
        elapsed = turn * 7919
        timeless.move_clock(START + elapsed)
        left = timeless.peek((rule,))[1]
        # All that is left in one call, and then not one more.
        if left:
            assert timeless.admit(Admission(left, (rule,))).verdict == ADMITTED
        assert timeless.admit(Admission(1, (rule,))).verdict != ADMITTED
        admitted += left
        if 7919 * limit <= burst * SECOND:
            assert admitted == burst + elapsed * limit // SECOND
        else:
            assert admitted == burst * (turn + 1)


def test_the_wait_that_is_named_is_exact(timeless: Scripts) -> None:
    now = START
    rule = Throttle(f"{TAG}:t", 300_000, SECOND, 1000)
    timeless.admit(Admission(1000, (rule,)))
    for cost in (1, 2, 3, 7, 999, 1000, 1):
        wait = timeless.admit(Admission(cost, (rule,))).throttles[0].retry
        timeless.move_clock(now + wait - 1)
        assert timeless.admit(Admission(cost, (rule,))).verdict != ADMITTED
        timeless.move_clock(now + wait)
        assert timeless.admit(Admission(cost, (rule,))).verdict == ADMITTED
        now += wait
