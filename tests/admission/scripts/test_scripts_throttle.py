"""Throttles: what is let through and when the next may come, to the microsecond, whatever is changed meanwhile."""

from __future__ import annotations

import struct
from random import Random

import pytest
from lua import START, TAG, Scripts
from model import ADMITTED, REFUSED, Admission, Quota, Reply, Throttle
from support.resp import ServerError

SECOND = 1_000_000
KEY = f"{TAG}:t:org:1"


def throttle(limit: int = 10, seconds: int = 1, burst: int | None = None, key: str = KEY) -> Throttle:
    return Throttle(key, limit, seconds * SECOND, limit if burst is None else burst)


def spend(scripts: Scripts, rule: Throttle, cost: int = 1) -> Reply:
    return scripts.admit(Admission(cost, (rule,)))


def spent(scripts: Scripts, rule: Throttle) -> int:
    """How many units are let through one by one."""
    count = 0
    while spend(scripts, rule).verdict == ADMITTED:
        count += 1
    return count


def test_a_burst_goes_through_at_once_and_then_one_unit_at_a_time(timeless: Scripts) -> None:
    rule = throttle(10, burst=3)
    replies = [spend(timeless, rule) for _ in range(4)]
    assert [reply.verdict for reply in replies] == [ADMITTED] * 3 + [REFUSED]
    assert [reply.throttles[0].remaining for reply in replies] == [2, 1, 0, 0]
    assert replies[3].throttles[0].retry == 100_000
    timeless.move_clock(START + 99_999)
    assert spend(timeless, rule).throttles[0].retry == 1
    timeless.move_clock(START + 100_000)
    assert spend(timeless, rule).verdict == ADMITTED


def test_the_reset_is_when_nothing_is_owed(timeless: Scripts) -> None:
    rule = throttle(3, burst=3)
    reset = spend(timeless, rule).throttles[0].reset
    assert reset == 333_334
    timeless.move_clock(START + reset - 1)
    assert timeless.peek((rule,)) == [START + reset - 1, 2, 1]
    timeless.move_clock(START + reset)
    assert timeless.peek((rule,)) == [START + reset, 3, 0]


def test_a_refusal_names_the_rule_with_the_longest_wait(timeless: Scripts) -> None:
    fast, slow, free = throttle(10), throttle(1, key=f"{TAG}:t:slow"), throttle(1000, key=f"{TAG}:t:free")
    quota = Quota(f"{TAG}:q", 1, START // 1000 - 1000, START // 1000 + 1000)
    spend(timeless, fast, 10)
    spend(timeless, slow)
    reply = timeless.admit(Admission(1, (free, fast, slow)))
    assert (reply.verdict, reply.rule) == (REFUSED, 3)
    assert [state.retry for state in reply.throttles] == [0, 100_000, SECOND]
    # The window of the quota ends after the second that the throttle needs.
    timeless.admit(Admission(1, (), (quota,)))
    timeless.move_clock(START + 1)
    assert timeless.admit(Admission(1, (free, fast, slow), (quota,))).rule == 3
    timeless.move_clock(START + 10_000)
    quota = Quota(quota.key, 1, quota.start, quota.end + 20)
    assert timeless.admit(Admission(1, (free, fast, slow), (quota,))).rule == 4
    # Never is longer than any wait.
    assert timeless.admit(Admission(11, (free, fast), (quota,))).rule == 2


def test_of_equal_waits_the_first_rule_is_named(timeless: Scripts) -> None:
    pair = throttle(), throttle(key=f"{TAG}:t:twin")
    timeless.admit(Admission(10, pair))
    assert [timeless.admit(Admission(cost, pair)).rule for cost in (1, 10, 11)] == [1, 1, 1]


def test_a_cost_above_the_burst_is_never_let_through(timeless: Scripts) -> None:
    rule = throttle(10, burst=5)
    for cost in (6, 10, 2**52, 2**53):
        reply = spend(timeless, rule, cost)
        assert (reply.verdict, reply.rule, reply.throttles) == (REFUSED, 1, ((5, -1, 0),))
    assert timeless.server.execute("EXISTS", KEY) == 0


def test_a_cost_of_nothing_asks_whether_a_unit_is_left(timeless: Scripts) -> None:
    rule = throttle(10, burst=2)
    assert spend(timeless, rule, 0).verdict == ADMITTED
    assert timeless.server.execute("EXISTS", KEY) == 0
    spend(timeless, rule, 2)
    reply = spend(timeless, rule, 0)
    assert (reply.verdict, reply.throttles[0].retry) == (REFUSED, 100_000)
    timeless.move_clock(START + 100_000)
    assert [spend(timeless, rule, 0).verdict for _ in range(3)] == [ADMITTED] * 3


@pytest.mark.parametrize("cost", ["-1", "1.5", "nan", "inf", "1e17", "9007199254740994", "one", ""])
def test_a_cost_that_is_no_whole_number_is_an_error(scripts: Scripts, cost: str) -> None:
    with pytest.raises(ServerError, match=r"^ERR"):
        scripts.run("admit", [KEY], [cost, 1, 0, 0, 0, "", 10, SECOND, 10])
    assert scripts.snapshot() == []


@pytest.mark.parametrize(("limit", "period", "burst"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (1, 2**32, 2**21)])
def test_a_rule_that_cannot_be_counted_exactly_is_an_error(
    scripts: Scripts, limit: int, period: int, burst: int
) -> None:
    rule = Throttle(KEY, limit, period, burst)
    with pytest.raises(ServerError, match="below 1 or too large"):
        spend(scripts, rule)
    with pytest.raises(ServerError, match="below 1 or too large"):
        scripts.peek((rule,))
    assert scripts.snapshot() == []


def test_numbers_at_the_bound_lose_nothing(timeless: Scripts) -> None:
    rule = Throttle(KEY, 1, 2**32, 2**20)
    assert spend(timeless, rule, 2**20 - 1).throttles == ((1, 0, (2**20 - 1) * 2**32),)
    timeless.move_clock(START + 1)
    assert spend(timeless, rule).throttles == ((0, 0, 2**52 - 1),)
    assert spend(timeless, rule).throttles == ((0, 2**32 - 1, 2**52 - 1),)


# Changed rules.


def test_a_raised_limit_holds_at_once(timeless: Scripts) -> None:
    spend(timeless, throttle(1000, 86_400), 1000)
    # A full day was owed; the same units take a tenth of a second now, and the burst is larger.
    assert timeless.peek((throttle(10_000),)) == [START, 9000, 100_000]
    assert spent(timeless, throttle(10_000)) == 9000


def test_a_lowered_limit_forgives_what_is_above_its_burst(timeless: Scripts) -> None:
    spend(timeless, throttle(1_000_000, 60), 1_000_000)
    slow = throttle(10, 60)
    assert spend(timeless, slow).throttles == ((0, 6 * SECOND, 60 * SECOND),)
    # Nothing was written, and yet it flows off at the new rate from the charge on.
    timeless.move_clock(START + 6 * SECOND)
    assert spent(timeless, slow) == 1


def test_a_lowered_burst_does_not_shut_longer_than_itself(timeless: Scripts) -> None:
    spend(timeless, throttle(10, burst=1000), 1000)
    small = throttle(10, burst=2)
    assert spend(timeless, small).throttles[0].retry == 100_000
    timeless.move_clock(START + 200_000)
    assert spent(timeless, small) == 2


def test_a_rule_above_and_one_below_agree_on_the_units(timeless: Scripts) -> None:
    spend(timeless, throttle(100, 60, burst=50), 20)
    for rule, left in [(throttle(3, burst=50), 30), (throttle(7, 86_400, burst=50), 30), (throttle(1, burst=30), 10)]:
        assert timeless.peek((rule,))[1] == left


def test_a_changed_period_rounds_against_the_caller_and_no_more(timeless: Scripts) -> None:
    # Debts and periods of all sizes; a limit of 1 makes the reset the debt itself.
    random = Random(42)
    cases = [(debt, old, new) for old in range(1, 6) for new in range(1, 10) for debt in range(2 * old)]
    for bits in [8, 20, 33, 45, 50, 52] * 20:
        old, new = random.randint(1, 2**bits), random.randint(1, 2**bits)
        cases += [(random.randint(0, old), old, new), (old - 1, old, new), (1, old, new), (old + 1, old, new)]
    for debt, old, new in cases:
        timeless.server.execute("SET", KEY, struct.pack(">ddd", START, debt, old))
        burst = min(2**52 // new, 10)
        expected = min(-(-debt * new // old), burst * new)
        assert timeless.peek((Throttle(KEY, 1, new, burst),)) == [START, burst - -(-expected // new), expected]


# The clock.


def test_a_clock_set_back_shuts_no_longer_than_a_burst_takes(timeless: Scripts) -> None:
    rule = throttle(10)
    spend(timeless, rule, 10)
    back = START - 3600 * SECOND
    timeless.move_clock(back)
    reply = spend(timeless, rule)
    assert (reply.verdict, reply.throttles) == (REFUSED, ((0, 100_000, SECOND),))
    # The refusal dated the state back, so the wait it named is true.
    timeless.move_clock(back + 100_000)
    assert spend(timeless, rule).verdict == ADMITTED
    timeless.move_clock(back + SECOND + 100_000)
    assert spent(timeless, rule) == 10


def test_a_clock_set_back_and_forth_changes_nothing(timeless: Scripts) -> None:
    rule = throttle(10)
    spend(timeless, rule, 7)
    before = timeless.snapshot()
    timeless.move_clock(START - 2 * SECOND)
    assert timeless.peek((rule,)) == [START - 2 * SECOND, 3, 700_000]
    assert spend(timeless, throttle(10), 0).verdict == ADMITTED
    # More than the burst is never let through, so there is nothing to wait for and nothing to date back.
    assert spend(timeless, rule, 11).throttles[0].retry == -1
    timeless.move_clock(START)
    assert timeless.snapshot() == before
    assert timeless.peek((rule,)) == [START, 3, 700_000]


@pytest.mark.parametrize("step", [1, 41, 999_999, SECOND])
def test_a_clock_that_steps_back_lets_nothing_through_twice(timeless: Scripts, step: int) -> None:
    rule = throttle(300_000)
    spend(timeless, rule, 300_000)
    timeless.move_clock(START + 10)
    assert spend(timeless, rule, 3).verdict == ADMITTED
    for _ in range(5):
        timeless.move_clock(START + 10 - step)
        reply = timeless.admit(Admission(1, (throttle(10, key=f"{TAG}:t:other"), rule)))
        assert (reply.verdict, reply.rule, reply.now) == (REFUSED, 2, START + 10)
        timeless.move_clock(START + 10)
        assert spend(timeless, rule).verdict == REFUSED


def test_a_charge_after_a_step_back_is_kept_as_long_as_it_is_owed(timeless: Scripts) -> None:
    rule, other = throttle(10), throttle(10, key=f"{TAG}:t:other")
    spend(timeless, rule)
    timeless.move_clock(START - SECOND)
    reply = timeless.admit(Admission(9, (other, rule)))
    assert (reply.verdict, reply.now) == (ADMITTED, START)
    # By the moment it was charged at, not by the clock that is a second behind.
    timeless.move_clock(START + 900_000)
    assert timeless.peek((rule, other))[1::2] == [9, 10]
    assert spend(timeless, rule, 10).verdict == REFUSED


def test_only_the_throttle_that_refuses_is_dated_back(timeless: Scripts) -> None:
    full, other = throttle(10), throttle(10, key=f"{TAG}:t:other")
    timeless.admit(Admission(1, (full, other)))
    spend(timeless, full, 9)
    other_before = timeless.server.execute("DUMP", other.key)
    full_before = timeless.server.execute("DUMP", full.key)
    timeless.move_clock(START - 2 * SECOND)
    assert timeless.admit(Admission(1, (full, other))).rule == 1
    assert timeless.server.execute("DUMP", other.key) == other_before
    assert timeless.server.execute("DUMP", full.key) != full_before


def test_a_clock_set_ahead_lets_a_burst_through_and_no_more(timeless: Scripts) -> None:
    rule = throttle(300_000)
    spend(timeless, rule, 300_000)
    timeless.move_clock(START + 10**14)
    assert timeless.peek((rule,))[1] == 300_000
    assert spend(timeless, rule, 300_000).verdict == ADMITTED
    assert spend(timeless, rule).verdict == REFUSED


# The server's own clock.


def test_time_is_the_servers_and_the_state_expires_with_the_debt(scripts: Scripts) -> None:
    def clock() -> int:
        seconds, micros = scripts.server.execute("TIME")
        return int(seconds) * SECOND + int(micros)

    before = clock()
    reply = spend(scripts, throttle(1, 600))
    after = clock()
    assert before <= reply.now <= after
    # In milliseconds, from when it is written, which is a moment after the clock was read.
    expiry = scripts.server.execute("PEXPIRETIME", KEY)
    assert reply.now / 1000 <= expiry - 600_000 <= after / 1000 + 2


def test_in_real_time_units_come_back(scripts: Scripts) -> None:
    rule = throttle(1000, burst=1)
    first = spend(scripts, rule)
    while (reply := spend(scripts, rule)).verdict == REFUSED:
        assert 0 < reply.throttles[0].retry <= 1000 - (reply.now - first.now)
    assert reply.now - first.now >= 1000
