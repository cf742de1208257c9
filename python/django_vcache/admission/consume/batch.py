"""What a consumer hands out: batches of entries, and the ways to say what became of them."""

import os
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import overload

from .entry import Entry
from .group import Group
from .steps import Steps, adrive, drive

Which = Iterable[Entry | str]
"""Entries of a batch, or their ids."""


class Batch(Sequence[Entry]):
    """The entries of one delivery, in the order in which they were written to each shard.

    Without more ado they are acknowledged when the consumer is asked for its next batch. The methods are
    for those who want to say more; each has an awaited form with an ``a`` in front::

        for batch in stream.consumer("billing"):
            with batch:             # acknowledged here; if the block raises, left to be delivered again
                save(batch)
    """

    def __init__(self, group: Group, entries: Sequence[Entry]) -> None:
        self._group = group
        self._process = os.getpid()
        self._entries = tuple(entries)
        # Neither acknowledged nor rejected so far, by shard and id.
        self._open = {(entry.shard, entry.id): entry for entry in entries}
        # Whether the user has said what is acknowledged: then nothing else is.
        self._told = False
        # Whether some of it was acknowledged, and whether the failure of the rest has been told.
        self._worked = self._failed = False

    @property
    def pending(self) -> tuple[Entry, ...]:
        """The entries that are neither acknowledged nor rejected so far."""
        return tuple(self._open.values())

    def ack(self, which: Which | None = None) -> int:
        """Acknowledges entries, and deletes them from the stream once all its groups are done with them.

        After that, only what is acknowledged in so many words is: the others are delivered again, ``reclaim_after``
        seconds after this delivery. ``batch.ack([])`` leaves all of them.

        While the server cannot be reached it tries again, until the consumer is stopped, and for 10 seconds more.

        Args:
            which: entries of this batch, or their ids; without, all that is open.

        Returns:
            How many were pending until now. An entry that another consumer has acknowledged is not counted.

        Raises:
            ValueError: for an id that this batch does not have, or has in two shards: give the entry instead.
            RuntimeError: in a forked child, for a batch of its parent's.
            ResponseError: the server's error.

        >>> batch.ack(entry for entry in batch if save(entry))  # doctest: +SKIP
        498
        """
        return drive(self._acknowledge(which), self._group.alias)

    async def aack(self, which: Which | None = None) -> int:
        """As :meth:`ack`."""
        return await adrive(self._acknowledge(which), self._group.alias)

    def reject(self, which: Which | None = None, *, reason: str = "rejected") -> int:
        """Moves entries to the dead letters now, because no further delivery would help. It says nothing of the others.

        Args:
            which: entries of this batch, or their ids; without, all that is open.
            reason: is kept with the dead letter and shown by ``manage.py vcache_stream --dead``; 500 characters of it.

        Returns:
            How many were moved. An entry that is not pending any more is not.

        Raises:
            ValueError, RuntimeError, ResponseError: as :meth:`ack`.
        """
        return drive(self._bury(which, reason), self._group.alias)

    async def areject(self, which: Which | None = None, *, reason: str = "rejected") -> int:
        """As :meth:`reject`."""
        return await adrive(self._bury(which, reason), self._group.alias)

    def extend(self) -> int:
        """Renews the claim on the entries that are still :attr:`pending`: for ``reclaim_after`` seconds from now no
        other consumer takes them over. Call it now and then in work that may take longer, from any thread.

        What another consumer has taken over already stays with that one: it is no longer in :attr:`pending`, and not
        acknowledged with this batch. While the server cannot be reached it tries again, as :meth:`ack` does.

        Returns:
            How many entries are still this consumer's.

        Raises:
            RuntimeError, ResponseError: as :meth:`ack`.

        >>> for entry in batch:  # doctest: +SKIP
        ...     transcode(entry)
        ...     batch.extend()
        """
        return drive(self._extend(), self._group.alias)

    async def aextend(self) -> int:
        """As :meth:`extend`."""
        return await adrive(self._extend(), self._group.alias)

    def __enter__(self) -> "Batch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        drive(self._left(error), self._group.alias)

    async def __aenter__(self) -> "Batch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await adrive(self._left(error), self._group.alias)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | Sequence[Entry]:
        return self._entries[index]

    def __repr__(self) -> str:
        return f"<Batch of {len(self._entries)} entries, {len(self._open)} open>"

    def _finish(self) -> Steps[None]:
        """What is said by asking for the next batch: all is well, unless something else was said."""
        # A forked child leaves it to its parent.
        if not self._told and self._process == os.getpid():
            yield from self._acknowledge(None)

    def _left(self, error: BaseException | None) -> Steps[None]:
        """The block that works on it is over."""
        if error is None:
            yield from self._finish()
            return
        self._told = True
        # A cancelled task or a Ctrl-C says nothing of the entries. One error may leave a block and then the handler.
        if isinstance(error, Exception) and self._process == os.getpid() and self._open and not self._failed:
            self._failed = True
            yield from self._group.failed(self.pending, _told_of(error), partly=self._worked)

    def _extend(self) -> Steps[int]:
        chosen = self._chosen(None)
        kept = yield from self._group.extend(chosen)
        self._close(entry for entry in chosen if (entry.shard, entry.id) not in kept)
        return len(kept)

    def _acknowledge(self, which: Which | None) -> Steps[int]:
        chosen = self._chosen(which)
        self._told = True
        count = (yield from self._group.acknowledge(chosen)) if chosen else 0
        self._worked = self._worked or bool(chosen)
        self._close(chosen)
        return count

    def _bury(self, which: Which | None, reason: str) -> Steps[int]:
        chosen = self._chosen(which)
        count = yield from self._group.bury(chosen, reason)
        self._close(chosen)
        return count

    def _chosen(self, which: Which | None) -> list[Entry]:
        """The entries meant, without those that are settled already."""
        if self._process != os.getpid():
            raise RuntimeError(f"{self!r} was given to process {self._process}: a forked child cannot settle it")
        if which is None:
            return list(self._open.values())
        if isinstance(which, str):
            raise TypeError(f"give a list of ids, not the string {which!r}")
        by_id: dict[str, list[Entry]] = {}
        for entry in self._entries:
            by_id.setdefault(entry.id, []).append(entry)
        chosen = []
        for each in dict.fromkeys(each if isinstance(each, str) else (each.shard, each.id) for each in which):
            found = by_id.get(each if isinstance(each, str) else each[1], [])
            if not isinstance(each, str):
                found = [entry for entry in found if entry.shard == each[0]]
            if not found:
                raise ValueError(f"{each!r} is not in this batch of {len(self._entries)} entries")
            if len(found) > 1:
                shards = " and ".join(str(entry.shard) for entry in found)
                raise ValueError(f"shards {shards} have an entry {each!r} each in this batch: give the entry itself")
            if (found[0].shard, found[0].id) in self._open:
                chosen.append(found[0])
        return chosen

    def _close(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self._open.pop((entry.shard, entry.id), None)


def _told_of(error: Exception) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        # It has a `__str__` that fails.
        return type(error).__name__
