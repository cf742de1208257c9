"""Where the next batch comes from: what is pending from before, what others left lying, and what is new."""

import os
import random
import time
from collections import deque
from collections.abc import Sequence

from django_vcache.exceptions import VcacheError

from ._group import Group, entry
from ._steps import Command, Pause, Send, Steps
from .batch import Entry

WAIT = 0.5
"""Seconds that the server is asked to wait for an entry. It is also how long a stop may have to wait."""
FORGET_AFTER = 3600.0
"""Seconds after which a consumer that holds nothing is taken off the group's list, at the earliest."""

# What comes in while a batch is collected is fetched now and then rather than entry by entry: so many times, if that is
# often enough.
_FETCHES = 20
_LONGEST_PAUSE = 0.25  # seconds
# Seconds between two looks at a cluster's shards, which no single command can wait for: from, to.
_POLL = (0.02, 0.25)
# Seconds between two searches for what others left lying, at the most.
_SEARCH = 15.0


class _Sweep:
    """A walk over the pending entries of all shards."""

    def __init__(self, shards: int, *, own: bool) -> None:
        self.own = own
        self.shards = deque(range(shards))
        self.start = "-"


class Reader:
    """Reads for one iteration over a consumer, batch by batch."""

    def __init__(self, group: Group, batch: int, max_wait: float) -> None:
        self.group = group
        self._batch = batch
        self._max_wait = max_wait
        self._shard_of = {key.encode(): shard for shard, key in enumerate(group.keys)}
        self._poll = _POLL[0]
        # Of a small batch and many shards, more may come than fits.
        self._surplus: deque[Entry] = deque()
        self._next_search = 0.0
        self._others: _Sweep | None = None
        self._first_shard = 0
        # What this consumer was given and has not acknowledged comes first: its last run ended in the middle, or a
        # reply was lost.
        self._own: _Sweep | None = _Sweep(len(group.keys), own=True)

    def next(self) -> Steps[list[Entry]]:
        """The next entries; none when the consumer was told to stop."""
        if self.group.process != os.getpid():
            self.group.begin()
            self._surplus.clear()
        # What has been delivered is in hand, and is worked on.
        while self._surplus or not self.group.stopped:
            if self.group.stopped:
                return self._left_over()
            try:
                entries = yield from self._take()
            except VcacheError as error:
                self._doubt()
                yield from self.group.survives(error)
                continue
            self.group.served()
            if entries:
                return entries
        return []

    def _doubt(self) -> None:
        """A reply may have been lost, and with it entries that the server counts as delivered."""
        self._own = _Sweep(len(self.group.keys), own=True)
        # It finds these again too.
        self._surplus.clear()

    def _left_over(self) -> list[Entry]:
        return [self._surplus.popleft() for _ in range(min(self._batch, len(self._surplus)))]

    def _take(self) -> Steps[list[Entry]]:
        if not self.group.joined:
            yield from self.group.join()
        if self._own and (entries := (yield from self._go_on(self._own))):
            return entries
        self._own = None
        if self._others is None and time.monotonic() >= self._next_search:
            self._others = _Sweep(len(self.group.keys), own=False)
        if self._others:
            if entries := (yield from self._go_on(self._others)):
                return entries
            self._others = None
            yield from self.group.forget_the_dead(max(FORGET_AFTER, 10 * self.group.reclaim_after))
            interval = min(self.group.reclaim_after / 4, _SEARCH)
            self._next_search = time.monotonic() + interval * random.uniform(0.75, 1.25)
        return (yield from self._new())

    def _go_on(self, sweep: _Sweep) -> Steps[list[Entry]]:
        while sweep.shards and not self.group.stopped:
            last, sweep.start, entries = yield from self.group.recover(sweep.shards[0], sweep.start, own=sweep.own)
            if last:
                sweep.shards.popleft()
                sweep.start = "-"
            if entries:
                return entries
        return []

    def _new(self) -> Steps[list[Entry]]:
        """Entries that nobody was given yet: a batch of them, or what comes within ``max_wait`` of the first."""
        shards = range(len(self.group.keys))
        # Shards of which there are more entries, as far as is known.
        more: Sequence[int] = shards
        entries = self._left_over()
        if not entries:
            entries, more = yield from self._read(shards, max(1, self._batch // len(shards)), wait=True)
        ends = time.monotonic() + self._max_wait
        while entries and len(entries) < self._batch and not self.group.stopped:
            room = self._batch - len(entries)
            if more:
                asked = more if len(more) <= room else self._some(more, room)
            elif (left := ends - time.monotonic()) > 0:
                pause = min(left, max(self._max_wait / _FETCHES, 0.001), _LONGEST_PAUSE)
                yield Pause(pause, until_stopped=True)
                asked = shards
            else:
                break
            try:
                came, more = yield from self._read(asked, max(1, room // len(asked)), wait=False)
            except VcacheError:
                # These are safe in hand. What the server may have given besides is asked for after them.
                self._doubt()
                break
            entries += came
        self._surplus.extend(entries[self._batch :])
        del entries[self._batch :]
        return entries

    def _some(self, shards: Sequence[int], count: int) -> Sequence[int]:
        """So many of the shards, others each time."""
        self._first_shard += count
        first = self._first_shard % len(shards)
        return [*shards[first:], *shards[:first]][:count]

    def _read(self, shards: Sequence[int], count: int, *, wait: bool) -> Steps[tuple[list[Entry], Sequence[int]]]:
        """New entries of these shards, at most `count` of each, and the shards that have more."""
        group = self.group
        if group.together or len(group.keys) == 1:
            seconds = min(WAIT, max(self._next_search - time.monotonic(), 0.001)) if wait else 0.0
            (reply,) = yield Send((self._command(shards, count, seconds),))
            replies = [reply]
        else:
            replies = yield Send(tuple(self._command((shard,), count, 0.0) for shard in shards))
            if wait and not any(replies):
                yield Pause(self._poll, until_stopped=True)
                self._poll = min(self._poll * 2, _POLL[1])
            else:
                self._poll = _POLL[0]
        entries: list[Entry] = []
        more: list[int] = []
        for reply in replies:
            for key, rows in (reply or {}).items():
                shard = self._shard_of[key]
                entries += (entry(shard, id, words, 1) for id, words in rows)
                if len(rows) == count:
                    more.append(shard)
        group.counts["delivered"] += len(entries)
        return entries, more

    def _command(self, shards: Sequence[int], count: int, seconds: float) -> Command:
        block = ("BLOCK", max(1, round(seconds * 1000))) if seconds else ()
        keys = (self.group.keys[shard] for shard in shards)
        return (
            *("XREADGROUP", "GROUP", self.group.group, self.group.name, "COUNT", count),
            *block,
            *("STREAMS", *keys, *(">" for _ in shards)),
        )
