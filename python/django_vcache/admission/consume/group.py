"""What one consumer does with its group on the server: acknowledge, recover, bury, come and go. All of it is procedures
of :mod:`.steps`.
"""

import enum
import functools
import logging
import math
import os
import random
import secrets
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from django_vcache import exceptions, reports
from django_vcache.exceptions import ResponseError, VcacheError

from .entry import Entry, entry_of
from .steps import Pause, Script, Send, Steps
from .stream import StreamLike
from .verdicts import Verdicts

T = TypeVar("T")

ByShard: TypeAlias = Mapping[int, Sequence[str]]
"""The ids of entries by the number of their shard."""

# A server out of memory must let itself be emptied, so all of them may run on one.
_JOIN = Script("join.lua", flags="flags=allow-oom")
_ACKNOWLEDGE = Script("entries.lua", "acknowledge.lua", flags="flags=allow-oom")
_BURY = Script("entries.lua", "bury.lua", flags="flags=allow-oom")
_RECOVER = Script("entries.lua", "recover.lua", flags="flags=allow-oom")
_EXCUSE = Script("excuse.lua", flags="flags=allow-oom")
_EXTEND = Script("extend.lua", flags="flags=allow-oom")
_LEAVE = Script("leave.lua", flags="flags=allow-oom")

# The server is there, and cannot serve now.
_UNAVAILABLE = frozenset(
    {"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS", "OOM", "READONLY", "TRYAGAIN"}
)
# The stream, or its group, was deleted.
_GONE = frozenset({"NOGROUP", "UNBLOCKED"})

GRACE = 10.0
"""Seconds for which an acknowledgement is tried after the consumer was told to stop."""
LONGEST_PAUSE = 5.0
"""Seconds between two attempts to reach a server that is away."""
_REASON = 500  # characters
# Milliseconds that a call may be under way to the server. A handler that fails pauses for longer, see `delivering`.
_SLACK = 20
# The most sizes of batches that a call to the script passes. Lua unpacks a few thousand arguments at most.
_MOST_SIZES = 64

logger = logging.getLogger("django_vcache")


class Whose(enum.Enum):
    """Which pending entries to take over."""

    LOST = enum.auto()
    """Those that this consumer was given by a call whose reply it did not get. It is no further delivery of theirs."""
    OWN = enum.auto()
    """All that this consumer was given before."""
    ANYBODYS = enum.auto()
    """What was left lying, by anybody."""


class Sweep:
    """A walk over pending entries, shard by shard.

    Args:
        since: when, at the earliest, the lost ones were delivered, by the monotonic clock.
        after: the lost ones of these shards come after these ids.
    """

    def __init__(
        self, shards: int, whose: Whose, *, since: float = 0.0, after: Mapping[int, str] | None = None
    ) -> None:
        self.whose = whose
        self.since = since
        starts = {shard: f"({id}" for shard, id in (after or {}).items()}
        # The shards that are left, each with where to go on: "-" is the first entry, and "(" goes after an id.
        self.left = deque((shard, starts.get(shard, "-")) for shard in range(shards))


class Group:
    """A consumer's membership of a group. Its arguments were checked by :class:`.consumer.Consumer`."""

    def __init__(
        self,
        stream: StreamLike,
        group: str,
        *,
        name: str | None,
        batch: int,
        max_deliveries: int | None,
        reclaim_after: float,
        delete: bool,
    ) -> None:
        self.alias = stream.using
        self.stream = stream.name
        self.keys = tuple(stream.keys)
        self.dead_keys = tuple(stream.dead_keys)
        self.group = group
        self.max_deliveries = max_deliveries
        self.reclaim_after = reclaim_after
        self.stopped_at: float | None = None
        self.counts = dict.fromkeys(("delivered", "redelivered", "acknowledged", "dead", "outages"), 0)
        # One command or script for all shards, until the server says that it is a cluster.
        self.together = True
        self.joined = False
        self._given_name = name
        self._delete = int(delete)
        self._sizes = _sizes(batch, max_deliveries)
        self._look = batch
        self._failures = 0
        self.begin()

    def begin(self) -> None:
        """This process consumes."""
        self.process = os.getpid()
        # A forked child of the same name would take over what its parent works on.
        self.name = self._given_name or f"{socket.gethostname()}-{self.process}-{secrets.token_hex(4)}"
        # The walk over what replies that did not come have delivered; None: there is no such reply. It outlives an
        # iteration: what it has handed out is behind it, and a failure of that counts.
        self.lost: Sweep | None = None
        # When the last reply with entries came, and since when what it delivered is delivered, at the earliest.
        self._heard = time.monotonic()
        self.since = self._heard
        self.verdicts = Verdicts()

    @property
    def stopped(self) -> bool:
        return self.stopped_at is not None

    # Coming and going.

    def join(self) -> Steps[None]:
        """Creates the group, from the first entry on, and the stream, where they are missing."""
        yield from self._everywhere(_JOIN, self.group)
        self.joined = True

    def leave(self) -> Steps[None]:
        """Takes this consumer off the list if nothing is pending for it. A name that stays does no harm."""
        try:
            yield from self._everywhere(_LEAVE, self.group, self.name, 0)
        except VcacheError as error:
            logger.debug("%s: consumer %s stays on the list: %s", self, self.name, error)

    def forget_the_dead(self, idle: float) -> Steps[None]:
        """Takes consumers off the list that hold nothing and were not heard of for `idle` seconds."""
        yield from self._everywhere(_LEAVE, self.group, "", _ms(idle))

    # Entries.

    def acknowledge(self, entries: Iterable[Entry]) -> Steps[int]:
        """Acknowledges entries, for as long as it takes; how many were pending."""

        def acknowledge(part: ByShard) -> Steps[int]:
            keys = tuple(self.keys[shard] for shard in part)
            return int((yield from _ACKNOWLEDGE(keys, self.group, self._delete, *_counted(part))))

        entries = tuple(entries)
        count = sum((yield from self._of_shards(entries, acknowledge)))
        self.counts["acknowledged"] += count
        self.verdicts.succeeded(entries)
        return count

    def extend(self, entries: Iterable[Entry]) -> Steps[set[tuple[int, str]]]:
        """Renews the claim on entries, for as long as it takes; the shard and id of each that is still ours."""

        def extend(part: ByShard) -> Steps[set[tuple[int, str]]]:
            keys = tuple(self.keys[shard] for shard in part)
            reply = yield from _EXTEND(keys, self.group, self.name, *_counted(part))
            # These are as young as a delivery now, and no reply that was lost has brought them.
            self._heard = time.monotonic()
            return {(shard, id.decode()) for shard, ids in zip(part, reply, strict=True) for id in ids}

        try:
            parts = yield from self._of_shards(entries, extend)
        except ResponseError as error:
            if not is_gone(error):
                raise
            # Nothing is pending any more.
            self.joined = False
            return set()
        return set().union(*parts)

    def failed(self, entries: Sequence[Entry], reason: str, *, partly: bool) -> Steps[None]:
        """The work on entries has failed. Those whose last delivery it was go to the dead letters, while the reason is
        at hand; but the failure does not count while everything fails.

        Args:
            partly: other entries of the batch were acknowledged.
        """
        excused = self.verdicts.failed(entries, partly=partly)
        if self.max_deliveries == 1:
            # It stands for one delivery, and not a second one.
            excused = []
        if excused and self.verdicts.failing > 1:
            reports.excused(self.alias, f"{self}", self.verdicts.failing)
        yield from self._excuse(excused)
        innocent = {(each.shard, each.id) for each in excused}
        yield from self._bury_used_up((each for each in entries if (each.shard, each.id) not in innocent), reason)

    def _excuse(self, entries: Iterable[Entry]) -> Steps[None]:
        """Takes back what was counted for the delivery of entries, down to 1: they may have been worked on."""
        counted = [each for each in entries if each.deliveries > 1]
        for shard, ids in _by_shard(counted, lambda each: (each.id, each.deliveries)).items():
            words = [word for pair in ids for word in pair]
            try:
                yield from self._patiently(
                    functools.partial(_EXCUSE, (self.keys[shard],), self.group, self.name, *words)
                )
            except VcacheError as error:
                if is_gone(error):
                    self.joined = False
                elif not is_outage(error):
                    raise

    def bury(self, entries: Iterable[Entry], reason: str) -> Steps[int]:
        """Moves entries to the dead letters, for as long as it takes; how many were pending, and so were moved."""
        entries = tuple(entries)
        by_shard = _ids_by_shard(entries)
        moved = 0
        for shard, ids in by_shard.items():
            moved += yield from self._patiently(functools.partial(self._bury_in, shard, ids, reason))
        self.verdicts.forget(entries)
        return moved

    def _bury_used_up(self, entries: Iterable[Entry], reason: str) -> Steps[None]:
        """Moves those to the dead letters whose last delivery has failed, while the reason is at hand. If the server
        cannot be reached, it is done without the reason when they would be delivered again."""
        used_up = [entry for entry in entries if self.max_deliveries and entry.deliveries >= self.max_deliveries]
        self.verdicts.forget(used_up)
        for shard, ids in _ids_by_shard(used_up).items():
            try:
                yield from self._bury_in(shard, ids, reason)
            except VcacheError as error:
                if not is_outage(error):
                    raise

    def _bury_in(self, shard: int, ids: Sequence[str], reason: str) -> Steps[int]:
        keys = self.keys[shard], self.dead_keys[shard]
        # What came out of JSON may have half a surrogate pair in it.
        text = reason[:_REASON].encode(errors="backslashreplace").decode()
        try:
            moved = int((yield from _BURY(keys, self.group, self._delete, text, *ids)))
        except ResponseError as error:
            if not is_gone(error):
                raise
            # Nothing is pending any more.
            self.joined = False
            return 0
        self._count_dead(moved)
        return moved

    def recover(self, sweep: Sweep) -> Steps[list[Entry]]:
        """Takes over the next pending entries of a walk that is not at its end. Of one that is cut short nothing is
        lost: it goes on where it was."""
        shard, start = sweep.left[0]
        call = _RECOVER(
            (self.keys[shard], self.dead_keys[shard]),
            self.group,
            self._delete,
            self.name,
            "" if sweep.whose is Whose.ANYBODYS else self.name,
            _ms(self.reclaim_after) if sweep.whose is Whose.ANYBODYS else 0,
            _ms(time.monotonic() - sweep.since) + _SLACK if sweep.whose is Whose.LOST else "",
            start,
            self._look,
            self.max_deliveries or 0,
            *self._sizes,
        )
        if sweep.whose is Whose.LOST:
            # It counts nothing, so that it may be made again from the same start.
            reply = yield from call
            self._heard = time.monotonic()
        else:
            reply = yield from self.delivering(call)
        last, seen, buried, *rows = reply
        if last:
            sweep.left.popleft()
        elif seen:
            sweep.left[0] = shard, f"({seen.decode()}"
        self._count_dead(buried)
        entries = [entry_of(shard, id, fields, deliveries) for id, deliveries, fields in rows]
        for each in entries:
            self.counts["redelivered" if each.deliveries > 1 else "delivered"] += 1
        return entries

    def delivering(self, steps: Send | Steps[Any]) -> Steps[Any]:
        """A call by which the server counts entries as delivered. One that is cut short leaves the walk ``lost``."""
        # NOTE: not since the call is sent, since the server tells how old a delivery is, not when it was, and may take
        # its time for that; and not since the last reply, of whose entries some may be left on purpose.
        now = time.monotonic()
        self.since = max((self._heard + now) / 2, now - 1)
        try:
            reply = (yield steps) if isinstance(steps, Send) else (yield from steps)
        except BaseException:
            # Also when the caller that waits for the reply is cancelled.
            self.lose(self.since)
            raise
        self._heard = time.monotonic()
        return reply

    def lose(self, since: float, after: Iterable[Entry] = ()) -> None:
        """What was delivered since then has not arrived, but for these entries and those before them."""
        ends = {each.shard: each.id for each in after}
        self.lost = Sweep(len(self.keys), Whose.LOST, since=since, after=ends)

    # Trouble.

    def _patiently(self, attempt: Callable[[], Steps[T]]) -> Steps[T]:
        """What must be done: tried again while the server cannot serve, until some time after the stop."""
        began = time.monotonic()
        while True:
            try:
                result = yield from attempt()
            except VcacheError as error:
                until = None if self.stopped_at is None else max(self.stopped_at, began) + GRACE
                if not is_outage(error) or (until is not None and time.monotonic() > until):
                    raise
                yield Pause(self.next_pause(error))
            else:
                self._failures = 0
                return result

    def served(self) -> None:
        """The server has answered: the next outage begins with a short pause again."""
        self._failures = 0

    def next_pause(self, error: Exception) -> float:
        """Seconds to wait after one more failure, at random by up to half, so that many do not come back in step."""
        self.counts["outages"] += 1
        reports.retried(self.alias, f"{self}", error)
        pause = min(0.05 * 2.0 ** min(self._failures, 10), LONGEST_PAUSE)
        self._failures += 1
        return pause * random.uniform(0.5, 1.0)

    def survives(self, error: VcacheError) -> Steps[None]:
        """Waits and mends what a failure to read asks for; raises what will not pass by itself."""
        if is_crossslot(error) and self.together and len(self.keys) > 1:
            self.together = False
        elif is_outage(error) or is_gone(error):
            if is_gone(error):
                self.joined = False
            yield Pause(self.next_pause(error), until_stopped=True)
        else:
            raise error

    def _count_dead(self, count: int) -> None:
        if count:
            self.counts["dead"] += count
            reports.buried(self.alias, f"{self}", count)

    def _everywhere(self, script: Script, *arguments: str | int) -> Steps[None]:
        def all_at_once() -> Steps[None]:
            yield from script(self.keys, *arguments)

        def each() -> Steps[None]:
            for key in self.keys:
                yield from script((key,), *arguments)

        yield from self._by_slots(len(self.keys), all_at_once, each)

    def _of_shards(self, entries: Iterable[Entry], call: Callable[[ByShard], Steps[T]]) -> Steps[list[T]]:
        """What calls about entries return, of which each is tried for as long as it takes: one, or of a cluster one for
        each shard."""
        by_shard = _ids_by_shard(entries)
        if not by_shard:
            return []

        def all_at_once() -> Steps[list[T]]:
            return [(yield from call(by_shard))]

        def each() -> Steps[list[T]]:
            found = []
            for shard, ids in by_shard.items():
                found.append((yield from call({shard: ids})))
            return found

        return (yield from self._patiently(lambda: self._by_slots(len(by_shard), all_at_once, each)))

    def _by_slots(self, keys: int, all_at_once: Callable[[], Steps[T]], each: Callable[[], Steps[T]]) -> Steps[T]:
        if self.together or keys == 1:
            try:
                return (yield from all_at_once())
            except ResponseError as error:
                if not is_crossslot(error) or keys == 1:
                    raise
                self.together = False
        return (yield from each())

    def __str__(self) -> str:
        return f"stream {self.stream!r}, group {self.group!r}"


def is_outage(error: Exception) -> bool:
    """Whether the server is away or cannot serve now, and the same call may succeed later."""
    if isinstance(error, ResponseError):
        return error.code in _UNAVAILABLE
    return isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError)


def is_gone(error: Exception) -> bool:
    return isinstance(error, ResponseError) and error.code in _GONE


def is_crossslot(error: Exception) -> bool:
    return isinstance(error, ResponseError) and error.code == "CROSSSLOT"


def _sizes(batch: int, max_deliveries: int | None) -> list[int]:
    """How many entries may come together at their second, third, ... delivery: fewer each time, by the same factor,
    down to one. The last stands for all after it, so that many deliveries need no more sizes than a few."""
    steps = min((max_deliveries or 5) - 1, _MOST_SIZES)
    # Rounded first, or 500 ** (3 / 3) might be 501.
    return [math.ceil(round(batch ** ((steps - step) / steps), 6)) for step in range(1, steps + 1)] or [1]


def _ids_by_shard(entries: Iterable[Entry]) -> dict[int, list[str]]:
    return _by_shard(entries, lambda each: each.id)


def _by_shard(entries: Iterable[Entry], told: Callable[[Entry], T]) -> dict[int, list[T]]:
    by_shard: dict[int, list[T]] = {}
    for each in entries:
        by_shard.setdefault(each.shard, []).append(told(each))
    return by_shard


def _counted(by_shard: ByShard) -> list[str | int]:
    """As scripts take the ids of several streams: of each how many, and the ids."""
    words: list[str | int] = []
    for ids in by_shard.values():
        words += (len(ids), *ids)
    return words


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
