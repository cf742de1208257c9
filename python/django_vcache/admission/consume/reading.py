"""Where the next batch comes from: what is pending from before, what others left lying, and what is new."""

import random
import time
from collections.abc import Sequence

from django_vcache.exceptions import VcacheError

from .entry import Entry, entry_of
from .group import Group, Sweep, Whose
from .steps import Command, Pause, Send, Steps

WAIT = 0.5
"""Seconds that the server is asked to wait for an entry. It is also how long a stop may have to wait."""
FORGET_AFTER = 3600.0
"""Seconds after which a consumer that holds nothing is taken off the group's list, at the earliest."""

# What comes in while a batch is collected is fetched now and then rather than entry by entry: so many times, if that is
# often enough.
_FETCHES = 20
_LONGEST_PAUSE = 0.25  # seconds
# A batch that lacks less than such a part is full, if more shards have entries for it than there is room: a second read
# would bring next to nothing.
_FULL = 10
# Seconds between two looks at shards that no single command can wait for: those of a cluster, or more of them than fit
# into a batch. From, to.
_POLL = (0.02, 0.25)
# Seconds between two searches for what others left lying, at the most.
_SEARCH = 15.0


class Reader:
    """Reads for one iteration over a consumer, batch by batch."""

    def __init__(self, group: Group, batch: int, max_wait: float) -> None:
        self.group = group
        self._batch = batch
        self._max_wait = max_wait
        self._shard_of = {key.encode(): shard for shard, key in enumerate(group.keys)}
        self._poll = _POLL[0]
        self._next_search = 0.0
        self._others: Sweep | None = None
        self._first_shard = 0
        # What this consumer was given and has not acknowledged comes first: its last run ended in the middle.
        self._own: Sweep | None = Sweep(len(group.keys), Whose.OWN)
        self.since = 0.0
        """When what :meth:`next` has returned was delivered, at the earliest, by the monotonic clock."""

    def next(self) -> Steps[list[Entry]]:
        """The next entries; none when the consumer was told to stop."""
        while not self.group.stopped:
            try:
                entries = yield from self._take()
            except VcacheError as error:
                yield from self.group.survives(error)
                continue
            self.group.served()
            if entries:
                return entries
        return []

    def _take(self) -> Steps[list[Entry]]:
        shards = len(self.group.keys)
        if not self.group.joined:
            yield from self.group.join()
        if self.group.lost:
            if entries := (yield from self._go_on(self.group.lost)):
                return entries
            self.group.lost = None
        if self._own and (entries := (yield from self._go_on(self._own))):
            return entries
        self._own = None
        if self._others is None and time.monotonic() >= self._next_search:
            self._others = Sweep(shards, Whose.ANYBODYS)
        if self._others:
            if entries := (yield from self._go_on(self._others)):
                return entries
            self._others = None
            yield from self.group.forget_the_dead(max(FORGET_AFTER, 10 * self.group.reclaim_after))
            interval = min(self.group.reclaim_after / 4, _SEARCH)
            self._next_search = time.monotonic() + interval * random.uniform(0.75, 1.25)
        return (yield from self._new())

    def _go_on(self, sweep: Sweep) -> Steps[list[Entry]]:
        while sweep.left and not self.group.stopped:
            if entries := (yield from self.group.recover(sweep)):
                self.since = sweep.since if sweep.whose is Whose.LOST else self.group.since
                return entries
        return []

    def _new(self) -> Steps[list[Entry]]:
        """Entries that were not handed out yet: a batch of them, or what comes within ``max_wait`` of the first.

        Never more than there is room for: what waits for the next batch would grow old, and be taken over by others.
        """
        entries: list[Entry] = []
        since = 0.0
        try:
            # The shards that may have more, as far as is known.
            ask = self._in_turn()
            ends = 0.0
            while (room := self._batch - len(entries)) and not self.group.stopped:
                if not ask:
                    if (left := ends - time.monotonic()) <= 0:
                        break
                    pause = min(left, max(self._max_wait / _FETCHES, 0.001), _LONGEST_PAUSE)
                    yield Pause(pause, until_stopped=True)
                    ask = self._in_turn()
                    continue
                asked, ask = ask[:room], ask[room:]
                # The server can wait for all shards at once only.
                waits = self._together and not entries and len(asked) == len(self.group.keys)
                try:
                    came, more = yield from self._read(asked, room // len(asked), waits=waits)
                except VcacheError:
                    if not entries:
                        raise
                    # These are safe in hand. What the server may have given besides is asked for after them.
                    self.group.lose(self.group.since, after=entries)
                    break
                self._first_shard = asked[-1] + 1
                ask += more
                if came:
                    ends = ends or time.monotonic() + self._max_wait
                    since = since or self.group.since
                    self._poll = _POLL[0]
                    entries += came
                    if self._batch - len(entries) < min(len(more), self._batch / _FULL):
                        break
                elif not entries and not ask:
                    if not waits:
                        yield Pause(self._poll, until_stopped=True)
                        self._poll = min(self._poll * 2, _POLL[1])
                    break
        except BaseException:
            # The caller is cancelled: these were not handed out.
            if entries:
                self.group.lose(since)
            raise
        self.since = since
        return entries

    @property
    def _together(self) -> bool:
        return self.group.together or len(self.group.keys) == 1

    def _in_turn(self) -> list[int]:
        """All shards, beginning where the last read ended: none is kept waiting by those before it."""
        shards = range(len(self.group.keys))
        first = self._first_shard % len(shards)
        return [*shards[first:], *shards[:first]]

    def _read(self, shards: Sequence[int], count: int, *, waits: bool) -> Steps[tuple[list[Entry], list[int]]]:
        """New entries of these shards, at most `count` of each, and the shards that have more."""
        group = self.group
        seconds = min(WAIT, max(self._next_search - time.monotonic(), 0.001)) if waits else 0.0
        together = [shards] if self._together else [(shard,) for shard in shards]
        replies = yield from group.delivering(Send(tuple(self._command(each, count, seconds) for each in together)))
        entries: list[Entry] = []
        more: list[int] = []
        for reply in replies:
            for key, rows in (reply or {}).items():
                shard = self._shard_of[key]
                entries += (entry_of(shard, id, words, 1) for id, words in rows)
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
