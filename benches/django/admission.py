"""Admission as it is measured: the rules, who is charged, and the proof that a contestant refuses before it is timed.

Everybody is charged in turn, so that no key is much hotter than the others: a limit that keeps a
list of what it let through (REST framework's) would be measured by its length alone otherwise.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import server
from sessions import Session

Scope = dict[str, int]
Check = Callable[..., object]
"""Charges one event: true if it may go on. Of one rule it takes the user, of several the scope."""
AsyncCheck = Callable[..., Awaitable[object]]

THROTTLES = frozenset({"athrottle", "throttle"})
GATES = frozenset({"agate", "gate"})
REFUSALS = frozenset({"arefused"})
ADMISSION_OPERATIONS = THROTTLES | GATES | REFUSALS

SECONDS = {"minute": 60, "day": 86_400, "month": 30 * 86_400}


@dataclass(frozen=True)
class Rule:
    """``limit`` in each ``period`` for each value of the scope's entry ``key``."""

    name: str
    key: str
    limit: int
    period: str
    quota: bool = False

    @property
    def rate(self) -> str:
        return f"{self.limit}/{self.period}"

    @property
    def seconds(self) -> int:
        return SECONDS[self.period]


USER = Rule("user", "user", 100_000, "minute")
ONCE = replace(USER, limit=1, period="day")
"""Used up by one event, and then it refuses all."""
RULES = (
    Rule("org", "org", 10_000_000, "minute"),
    Rule("project", "project", 1_000_000, "minute"),
    USER,
    Rule("events", "org", 1_000_000_000, "month", quota=True),
    Rule("daily", "project", 100_000_000, "day", quota=True),
)
STREAM = "events"
MAXLEN = 100_000_000

SCOPES: tuple[Scope, ...] = tuple({"org": user // 16, "project": user // 4, "user": user} for user in range(1024))
REFUSED_SCOPES = SCOPES[:64]

PAYLOAD = json.dumps({"event_id": "0" * 32, "level": "error", "message": "of the bench " * 30}).encode()
"""An event as it is put into the stream: about half a kilobyte."""

TURN = 63
"""A task gives the loop its turn whenever its count has none of these bits."""

TIGHT = 3
"""The limit that a contestant must keep before it is timed."""


class Contestant(Session):
    """One way to admit events; a subclass makes the functions that are called while it is timed."""

    refuses = True
    """Whether it limits anything; the floor does not."""

    def __init__(self) -> None:
        self.made: dict[Hashable, Any] = {}

    def once(self, make: Callable[..., Any], *arguments: Hashable) -> Any:
        """What ``make`` answers, made once in the process as a module would, not in every task or thread."""
        key = (make, *arguments)
        if key not in self.made:
            self.made[key] = make(*arguments)
        return self.made[key]

    def stream_key(self) -> str:
        """Where its gate writes."""
        return STREAM

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        raise NotImplementedError

    async def agate(self, rules: tuple[Rule, ...]) -> AsyncCheck:
        raise NotImplementedError

    def throttle(self, rule: Rule) -> Check:
        raise NotImplementedError

    def gate(self, rules: tuple[Rule, ...]) -> Check:
        raise NotImplementedError

    def arguments(self, operation: str, scope: Scope) -> tuple[Any, ...]:
        """What the function is called with."""
        return (scope,) if operation in GATES else (scope["user"],)

    def finish(self, operation: str) -> None:
        """After the timing; raises if what was timed was something else than a check at the server."""

    async def aoperation(self, operation: str) -> AsyncCheck:
        """The function to be timed, for one task."""
        if operation in GATES:
            return await self.agate(RULES)
        return await self.athrottle(ONCE if operation in REFUSALS else USER)

    def operation(self, operation: str) -> Check:
        """The function to be timed, for one thread."""
        return self.gate(RULES) if operation in GATES else self.throttle(USER)


def calls(session: Contestant, operation: str) -> Iterator[tuple[Any, ...]]:
    """The arguments of one call after the other, everybody in turn, for ever."""
    scopes = REFUSED_SCOPES if operation in REFUSALS else SCOPES
    return itertools.cycle([session.arguments(operation, scope) for scope in scopes])


class Surprise(Exception):
    """A contestant did not do what it is measured for."""


async def aload(
    session: Contestant,
    operation: str,
    charged: Iterator[tuple[Any, ...]],
    counts: list[int],
    number: int,
    stop: list[bool],
) -> None:
    """Charges one after the other and counts them, until told to stop; raises at an answer that was not expected."""
    check = await session.aoperation(operation)
    expected = operation not in REFUSALS
    count = 0
    while not stop:
        if bool(await check(*next(charged))) is not expected:
            raise Surprise(f"a call was {'refused' if expected else 'admitted'} while it was timed")
        count += 1
        counts[number] = count
        # NOTE: what is answered without the network is there at once, and awaiting it never gives the loop its turn.
        if not count & TURN:
            await asyncio.sleep(0)


def load(
    session: Contestant,
    operation: str,
    charged: Iterator[tuple[Any, ...]],
    counts: list[int],
    number: int,
    stop: list[bool],
) -> None:
    """As :func:`aload`, in a thread."""
    check = session.operation(operation)
    count = 0
    while not stop:
        if not check(*next(charged)):
            raise Surprise("a call was refused while it was timed")
        count += 1
        counts[number] = count


def proofs(session: Contestant, operation: str) -> Iterator[tuple[tuple[Rule, ...], Scope]]:
    """Rules of which one is tight, and somebody who was not charged yet: each rule of the operation in its turn."""
    if not session.refuses:
        return
    rules = RULES if operation in GATES else (USER,)
    for number, tight in enumerate(rules):
        stranger = 1_000_000 + number
        yield (
            tuple(replace(rule, limit=TIGHT) if rule is tight else rule for rule in rules),
            {"org": stranger, "project": stranger, "user": stranger},
        )


def judge(rules: tuple[Rule, ...], answers: list[bool]) -> None:
    if answers != [True] * TIGHT + [False] * 2:
        (tight,) = (rule for rule in rules if rule.limit == TIGHT)
        raise Surprise(f"{tight.name}, with a limit of {TIGHT}, answered {answers}")


def judge_stream(session: Contestant, operation: str, admin_port: int) -> None:
    """Each rule let ``TIGHT`` events through, and the stream must hold those and no other."""
    if operation in GATES:
        length = int(server.command(admin_port, ("SELECT", "1"), ("XLEN", session.stream_key()))[1])
        if length != TIGHT * len(RULES):
            raise Surprise(f"{TIGHT * len(RULES)} events were admitted, and the stream holds {length}")


async def aprove(session: Contestant, operation: str, admin_port: int) -> None:
    """Raises unless the contestant refuses what is over each limit; uses up the limits that are to refuse."""
    for rules, scope in proofs(session, operation):
        check = await (session.agate(rules) if operation in GATES else session.athrottle(*rules))
        arguments = session.arguments(operation, scope)
        judge(rules, [bool(await check(*arguments)) for _ in range(TIGHT + 2)])
    judge_stream(session, operation, admin_port)
    if operation in REFUSALS:
        check = await session.aoperation(operation)
        for scope in REFUSED_SCOPES:
            arguments = session.arguments(operation, scope)
            if not await check(*arguments) or await check(*arguments):
                raise Surprise("a limit of 1 did not let exactly one through")


def prove(session: Contestant, operation: str, admin_port: int) -> None:
    """As :func:`aprove`, in a thread."""
    for rules, scope in proofs(session, operation):
        check = session.gate(rules) if operation in GATES else session.throttle(*rules)
        arguments = session.arguments(operation, scope)
        judge(rules, [bool(check(*arguments)) for _ in range(TIGHT + 2)])
    judge_stream(session, operation, admin_port)
