"""Random histories: the scripts answer what the model answers, keep what it keeps, and write nothing else.

They are the same thirty each time, unless the environment asks for others: VCACHE_TEST_HISTORIES is how many, and
VCACHE_TEST_SEED is what they are drawn from, a number of the moment if it is not given. A failure names both. Thousands
take minutes: `-o faulthandler_timeout=0` has pytest wait for them.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import Phase, given, seed, settings
from hypothesis import strategies as st
from lua import CLOCK, EXPIRIES, START, TAG, Scripts
from model import ADMITTED, REFUSED, Admission, Dedupe, Model, Quota, Rejected, Stream, Throttle
from support.resp import ServerError
from support.server import ValkeyServer

# NOTE: a history that fails is reported as it was found: making it smaller takes minutes, and a hang ends the tests.
usual = settings(derandomize=True, deadline=None, max_examples=30, database=None, phases=[Phase.generate])

SECOND = 1_000_000
HOUR = 3_600_000  # milliseconds

# limit, period in microseconds, burst: usual ones, fractions that do not end, fast ones, and ones at the bound.
RULES = [
    (10, SECOND, 10),
    (10, SECOND, 3),
    (100, 60 * SECOND, 20),
    (1, 600_000, 20),
    (3, SECOND, 7),
    (7, 333_333, 1),
    (1000, 999_983, 50),
    (300_000, SECOND, 300_000),
    (1, 86_400 * SECOND, 5),
    (999_979, 86_399_999_993, 52_000),
    (1, 2**32, 2**20),
    (2**53, 2**51, 2),
    (5, 1, 2**52),
]
UNSOUND = [(0, SECOND, 10), (10, SECOND, 0), (1, 2**32, 2**20 + 1)]


def weighted(**choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """One of some strategies, each as often as its weight says."""
    names = [name for name, (weight, _) in choices.items() for _ in range(weight)]
    return st.sampled_from(names).flatmap(lambda name: choices[name][1])


# A key has a rule of its own, which now and then is changed.
throttles = st.lists(
    st.integers(0, len(RULES) - 1).flatmap(
        lambda number: st.builds(
            lambda rule: Throttle(f"{TAG}:t:{number}", *rule),
            weighted(
                own=(40, st.just(RULES[number])),
                changed=(9, st.sampled_from(RULES)),
                unsound=(1, st.sampled_from(UNSOUND)),
            ),
        )
    ),
    max_size=3,
    unique_by=lambda throttle: throttle.key,
)
# A name, a limit, hours, how many windows it is off, a mode, how long it is kept.
quotas = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from([-1, 0, 1, 5, 40, 40, 40, 1000, 1000, 2**53 - 1]),
        st.sampled_from([1, 24]),
        st.sampled_from([0] * 30 + [-1, 1]),
        st.integers(0, 3),
        st.sampled_from([0, 1000, HOUR]),
    ),
    max_size=2,
    unique_by=lambda quota: quota[0],
)
streams = st.none() | st.builds(Stream, st.just(f"{TAG}:s"), st.sampled_from([0, 3, 10]), st.booleans())
dedupes = weighted(
    none=(3, st.none()),
    known=(1, st.builds(Dedupe, st.sampled_from([f"{TAG}:d:{n}" for n in "abcdef"]), st.sampled_from([1, 500, HOUR]))),
)
costs = st.sampled_from([0, 1, 1, 1, 2, 3, 7] * 5 + [50, 20_000, 2**32, 2**52, 2**53 - 1, 2**53, -1, 2**53 + 2])
# Of all rules, or of each; as many as rules there are at most.
costs = weighted(alike=(3, costs), each=(2, st.lists(costs, min_size=5, max_size=5).map(tuple)))
moves = weighted(
    little=(6, st.integers(0, 2000)),
    ahead=(6, st.sampled_from([1, 999, 99_999, 100_000, 333_333, SECOND, 60 * SECOND, 86_400 * SECOND, 10**13])),
    back=(2, st.sampled_from([-1, -1000, -100_000, -SECOND, -3600 * SECOND, -86_400 * SECOND])),
)
steps = st.lists(
    weighted(
        admit=(10, st.tuples(st.just("admit"), costs, throttles, quotas, streams, dedupes)),
        again=(6, st.tuples(st.just("again"))),
        move=(4, st.tuples(st.just("move"), moves)),
        peek=(1, st.tuples(st.just("peek"), throttles, quotas)),
        refund=(2, st.tuples(st.just("refund"), st.integers(0, 5), st.sampled_from([1, 1000, 2 * HOUR]))),
    ),
    min_size=20,
    max_size=60,
)


class History:
    """One server and one model that live through the same."""

    def __init__(self, scripts: Scripts) -> None:
        scripts.server.execute("FLUSHALL")
        scripts.move_clock(START)
        self.scripts = scripts
        self.model = Model(START)
        self.receipts: list[tuple[str, list[tuple[str, int]]]] = []
        self.last: Admission | None = None
        self.snapshot = scripts.snapshot()

    def step(self, name: str, *details: Any) -> None:
        getattr(self, name)(*details)

    def unchanged(self) -> None:
        assert self.scripts.snapshot() == self.snapshot

    def quotas(self, drawn: list[tuple[Any, ...]]) -> tuple[Quota, ...]:
        made = []
        for name, limit, hours, off, mode, keep in drawn:
            width = hours * HOUR
            start = (self.model.now_ms // width + off) * width
            made.append(Quota(f"{TAG}:q:{name}:{hours}:{start}", limit, start, start + width, mode, keep))
        return tuple(made)

    def admit(
        self, cost: int | tuple[int, ...], throttles: list[Throttle], quotas: list[Any], stream: Any, dedupe: Any
    ) -> None:
        if isinstance(cost, tuple):
            # Without rules there is nothing to name.
            cost = cost[: len(throttles) + len(quotas)] or 1
        receipt = f"nonce{len(self.receipts)}"
        self.ask(Admission(cost, tuple(throttles), self.quotas(quotas), stream, ("payload", "x"), dedupe, receipt))

    def again(self) -> None:
        if self.last:
            self.ask(self.last)

    def ask(self, call: Admission) -> None:
        self.last = call
        try:
            reply = self.scripts.admit(call)
        except ServerError:
            with pytest.raises(Rejected):
                self.model.admit(call)
            self.unchanged()
            return
        assert reply == self.model.admit(call, reply.id)
        if reply.verdict == ADMITTED:
            self.snapshot = self.scripts.snapshot()
            charged = zip(call.quotas, call.costs[len(call.throttles) :], strict=True)
            counted = [(quota.key, cost) for quota, cost in charged if quota.mode != 2]
            self.receipts.append((f"{TAG}:r:{len(self.receipts)}", counted))
        elif reply.verdict == REFUSED and self.model.redated:
            self.only_redated()
        else:
            self.unchanged()

    def only_redated(self) -> None:
        """A refusal under a clock that was set back: the throttles that refused changed, and nothing else."""
        changing = {key.encode() for key in self.model.redated} | {EXPIRIES.encode()}
        before = [row for row in self.snapshot if row[0] not in changing]
        self.snapshot = self.scripts.snapshot()
        assert [row for row in self.snapshot if row[0] not in changing] == before

    def move(self, by: int) -> None:
        self.model.move_clock(self.model.now + by)
        self.scripts.move_clock(self.model.now)
        self.snapshot = self.scripts.snapshot()

    def peek(self, throttles: list[Throttle], quotas: list[Any]) -> None:
        rules = tuple(throttles), self.quotas(quotas)
        try:
            reply = self.scripts.peek(*rules)
        except ServerError:
            with pytest.raises(Rejected):
                self.model.peek(*rules)
        else:
            assert reply == self.model.peek(*rules)
        self.unchanged()

    def refund(self, which: int, keep: int) -> None:
        if not self.receipts:
            return
        marker, counted = self.receipts[-1 - which % len(self.receipts)]
        keys, costs = [key for key, _ in counted], [cost for _, cost in counted]
        known = marker in self.model.values
        reply = self.scripts.refund(marker, keys, costs, keep)
        assert reply == self.model.refund(marker, keys, costs, keep)
        if known:
            self.unchanged()
        else:
            # At least the marker is new, also where nothing was left to give back.
            self.snapshot = self.scripts.snapshot()

    def same_keys(self) -> None:
        """In the end both hold the same, and it expires at the same time."""
        kept = {key: value for key, value in read_all(self.scripts.server) if key not in (CLOCK, EXPIRIES)}
        assert kept.keys() == self.model.values.keys()
        for key, expected in self.model.values.items():
            if key.startswith(f"{TAG}:t:"):
                at, debt, period = struct.unpack(">ddd", kept[key])
                assert (at, debt) == (expected[0], expected[1] * int(period))
            elif key.startswith(f"{TAG}:d:"):
                assert kept[key] == " ".join(expected).encode()
            else:
                assert int(kept[key]) == expected
        found = self.scripts.server.execute("HGETALL", EXPIRIES)
        pairs = zip(found[::2], found[1::2], strict=True)
        assert {key.decode(): int(expiry) for key, expiry in pairs} == self.model.expiries


def read_all(server: ValkeyServer) -> Iterator[tuple[str, Any]]:
    keys = server.keys()
    for key in keys:
        kind = server.execute("TYPE", key)
        if kind == "stream":
            yield key.decode(), server.execute("XLEN", key)
        elif kind == "string":
            yield key.decode(), server.execute("GET", key)


@pytest.fixture(scope="module")
def virtual(script_server: ValkeyServer) -> Iterator[Scripts]:
    """Virtual time; approximate trimming is exact, with one entry a node."""
    script_server.execute("CONFIG", "SET", "stream-node-max-entries", 1)
    yield Scripts(script_server, virtual_time=True)
    script_server.execute("CONFIG", "SET", "stream-node-max-entries", 100)


def test_the_scripts_do_what_the_model_does(virtual: Scripts) -> None:
    @given(steps)
    def histories(history: list[tuple[Any, ...]]) -> None:
        both = History(virtual)
        for step in history:
            both.step(*step)
        both.same_keys()

    count = int(os.environ.get("VCACHE_TEST_HISTORIES", 0))
    if not count:
        usual(histories)()
        return
    drawn_from = int(os.environ.get("VCACHE_TEST_SEED", time.time_ns() % 2**32))
    try:
        seed(drawn_from)(settings(usual, derandomize=False, max_examples=count)(histories))()
    except BaseException as error:
        error.add_note(f"VCACHE_TEST_HISTORIES={count} VCACHE_TEST_SEED={drawn_from}")
        raise
