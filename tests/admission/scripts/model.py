"""What the admission scripts are to do, as simply as Python can say it: exact fractions, one dict of keys,
no thought of speed. It shares nothing with the Lua but the order of the decisions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, floor, inf
from typing import Any, NamedTuple

REFUSED, ADMITTED, DUPLICATE, STALE = range(4)
STRICT, CROSSING, CHECK_ONLY, SHADOW = range(4)
LARGEST = 2**53
LARGEST_DEBT = 2**52
# A clock may be set back by so many microseconds, and time only stands still meanwhile.
SLACK = 1_000_000


@dataclass(frozen=True)
class Throttle:
    """`limit` units per `period` microseconds, and `burst` at once."""

    key: str
    limit: int
    period: int
    burst: int


@dataclass(frozen=True)
class Quota:
    """`limit` units (-1: only counted) from `start` to `end`, in milliseconds; kept `keep` longer."""

    key: str
    limit: int
    start: int
    end: int
    mode: int = STRICT
    keep: int = 60_000


@dataclass(frozen=True)
class Stream:
    """At most `bound` entries (0: any number); when full it is trimmed, or refuses."""

    key: str
    bound: int = 0
    trims: bool = False


@dataclass(frozen=True)
class Dedupe:
    """The key of an idempotency id, and the milliseconds it is remembered."""

    key: str
    keep: int = 60_000


@dataclass(frozen=True)
class Admission:
    """All that one call asks for."""

    # Of every rule, or one for each.
    cost: int | tuple[int, ...] = 1
    throttles: tuple[Throttle, ...] = ()
    quotas: tuple[Quota, ...] = ()
    stream: Stream | None = None
    fields: tuple[str | bytes, ...] = ("payload", "body")
    dedupe: Dedupe | None = None
    receipt: str = "receipt"

    @property
    def keys(self) -> list[str]:
        """In the order of KEYS."""
        parts = (*self.throttles, *self.quotas, self.stream, self.dedupe)
        return [part.key for part in parts if part is not None]

    @property
    def costs(self) -> tuple[int, ...]:
        """Of the throttles, then of the quotas."""
        if isinstance(self.cost, tuple):
            return self.cost
        return (self.cost,) * (len(self.throttles) + len(self.quotas))

    @property
    def asked(self) -> tuple[int, ...]:
        """For how many units each is asked. Without a cost for each, one of 0 asks for a unit."""
        return self.costs if isinstance(self.cost, tuple) else tuple(max(cost, 1) for cost in self.costs)

    @property
    def charges(self) -> bool:
        return max(self.cost, default=0) > 0 if isinstance(self.cost, tuple) else self.cost > 0


class ThrottleState(NamedTuple):
    """A throttle's part of a reply: units, microseconds (-1: never), microseconds."""

    remaining: int
    retry: int
    reset: int


class Reply(NamedTuple):
    """The reply of `admit`. A stale one has neither texts nor states."""

    verdict: int
    rule: int
    now: int
    id: str
    receipt: str
    throttles: tuple[ThrottleState, ...] = ()
    quotas: tuple[int, ...] = ()
    depth: int | None = None


class Rejected(Exception):
    """The call is an error, and nothing was written."""


@dataclass
class Model:
    """A server. `now` is its clock, in microseconds."""

    now: int
    values: dict[str, Any] = field(default_factory=dict)
    expiries: dict[str, int] = field(default_factory=dict)
    # What the last call was counted by: the clock, or a moment of a throttle's that was a little later.
    moment: int = 0
    # The throttles that the last call dated back, because the clock had been set back.
    redated: set[str] = field(default_factory=set)

    @property
    def now_ms(self) -> int:
        return self.now // 1000

    def move_clock(self, now: int) -> None:
        self.now = now
        for key in [key for key, expiry in self.expiries.items() if self.now_ms > expiry]:
            del self.values[key], self.expiries[key]

    def put(self, key: str, value: Any, keep: int) -> None:
        self.values[key], self.expiries[key] = value, self.now_ms + keep

    def owed(self, rule: Throttle) -> tuple[Fraction, bool]:
        """Units owed now, and whether they were charged too far in the future."""
        if rule.burst * rule.period > LARGEST_DEBT or min(rule.limit, rule.period, rule.burst) < 1:
            raise Rejected
        at, units = self.values.get(rule.key, (self.moment, Fraction(0)))
        if at <= self.now + SLACK:
            self.moment = max(self.moment, at)
        # The smallest thing that is counted is what flows off in a LIMITth of a microsecond.
        units = Fraction(ceil(units * rule.period), rule.period)
        units = min(units, Fraction(rule.burst))
        elapsed = max(self.moment - at, 0)
        return max(units - Fraction(elapsed * rule.limit, rule.period), Fraction(0)), at > self.now + SLACK

    def charge(self, rule: Throttle, units: Fraction) -> None:
        reset = self.state(rule, units, 0).reset
        self.put(rule.key, (self.moment, units), (reset + self.moment - self.now) // 1000 + 2)

    @staticmethod
    def state(rule: Throttle, units: Fraction, retry: int) -> ThrottleState:
        return ThrottleState(floor(rule.burst - units), retry, ceil(units * rule.period / rule.limit))

    def admit(self, call: Admission, entry_id: str = "") -> Reply:
        """`entry_id` is what XADD is to answer."""
        self.moment, self.redated = self.now, set()
        costs = call.cost if isinstance(call.cost, tuple) else (call.cost,)
        if not all(0 <= cost <= LARGEST for cost in costs):
            raise Rejected
        known = self.values.get(call.dedupe.key) if call.dedupe else None
        waits: list[tuple[float, int]] = []

        owed = [self.owed(rule) for rule in call.throttles]
        retries = []
        for index, (rule, (units, _), asked) in enumerate(zip(call.throttles, owed, call.asked, strict=False), 1):
            short = asked - (rule.burst - units)
            retries.append(-1 if asked > rule.burst else max(0, ceil(short * rule.period / rule.limit)))
            if retries[-1]:
                waits.append((inf if retries[-1] < 0 else retries[-1], index))

        used = [self.values.get(rule.key, 0) for rule in call.quotas]
        overflows = False
        charged = zip(call.asked[len(owed) :], call.costs[len(owed) :], strict=True)
        rows = zip(call.quotas, used, charged, strict=True)
        for index, (quota, count, (asked, cost)) in enumerate(rows, len(owed) + 1):
            if known is None and not quota.start * 1000 <= self.moment < quota.end * 1000:
                return Reply(STALE, index, self.moment, "", "")
            if (wait := self._quota_wait(quota, count, asked)) is not None:
                waits.append((wait, index))
            elif quota.mode != CHECK_ONLY and count + cost >= LARGEST and known is None:
                overflows = True

        length = self.values.get(call.stream.key, 0) if call.stream else None
        if call.stream and not call.stream.trims and 0 < call.stream.bound <= length:
            waits.append((0, len(owed) + len(used) + 1))
        if overflows and not waits:
            raise Rejected

        def reply(verdict: int, rule: int, entry: str, receipt: str) -> Reply:
            states = zip(call.throttles, owed, retries, strict=True)
            throttles = tuple(self.state(rule, units, retry) for rule, (units, _), retry in states)
            return Reply(verdict, rule, self.moment, entry, receipt, throttles, tuple(used), length)

        if known is not None:
            return reply(DUPLICATE, 0, *known)
        if waits:
            for rule, (units, future), retry in zip(call.throttles, owed, retries, strict=True):
                if future and retry > 0:
                    self.charge(rule, units)
                    self.redated.add(rule.key)
            longest = max(wait for wait, _ in waits)
            return reply(REFUSED, next(index for wait, index in waits if wait == longest), "", "")

        if call.stream:
            length += 1
            if call.stream.trims and call.stream.bound:
                length = min(length, call.stream.bound)
            self.values[call.stream.key] = length
        else:
            entry_id = ""
        if call.dedupe and (call.charges or call.stream):
            self.put(call.dedupe.key, (entry_id, call.receipt), call.dedupe.keep)
        if call.charges:
            owed = [(units + cost, False) for (units, _), cost in zip(owed, call.costs, strict=False)]
            for rule, (units, _), cost in zip(call.throttles, owed, call.costs, strict=False):
                if cost:
                    self.charge(rule, units)
            for index, (quota, cost) in enumerate(zip(call.quotas, call.costs[len(owed) :], strict=True)):
                if quota.mode != CHECK_ONLY and cost:
                    used[index] += cost
                    self.put(quota.key, used[index], quota.end + quota.keep - self.now_ms)
        return reply(ADMITTED, 0, entry_id, call.receipt)

    def _quota_wait(self, quota: Quota, used: int, asked: int) -> float | None:
        """Microseconds until it may let the call through; None if it does."""
        if quota.limit < 0 or quota.mode == SHADOW or not asked:
            return None
        if quota.mode == CROSSING:
            if used < quota.limit:
                return None
            never = quota.limit == 0
        else:
            if used + asked <= quota.limit:
                return None
            never = asked > quota.limit
        return inf if never else quota.end * 1000 - self.moment

    def peek(self, throttles: tuple[Throttle, ...], quotas: tuple[Quota, ...]) -> list[int]:
        self.moment = self.now
        states = [self.state(rule, self.owed(rule)[0], 0) for rule in throttles]
        reply = [self.moment]
        for state in states:
            reply += [state.remaining, state.reset]
        return reply + [self.values.get(quota.key, 0) for quota in quotas]

    def refund(self, marker: str, keys: list[str], costs: list[int], keep: int) -> list[int]:
        used = [self.values.get(key, 0) for key in keys]
        if marker in self.values:
            return [0, *used]
        self.put(marker, 1, max([keep, *(self.expiries[key] - self.now_ms for key in keys if key in self.values)]))
        given_back = 0
        for index, key in enumerate(keys):
            back = min(costs[index], used[index])
            given_back = max(given_back, min(back, 1))
            used[index] -= back
            if key in self.values:
                self.values[key] = used[index]
        return [given_back, *used]
