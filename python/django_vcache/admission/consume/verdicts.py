"""Which failures count against the entries of a batch, and which are the fault of what works on them: a handler that is
broken, or a database that is down, fails on every entry, and must not send them all to the dead letters.
"""

from collections import OrderedDict
from collections.abc import Iterable

from .entry import Entry

# Of so many entries it is known when they failed last. A forgotten one is judged as if this was its first failure here.
_REMEMBERED = 10_000


class Verdicts:
    """What became of the batches of one consumer.

    A failure counts against an entry if something else has succeeded since the same entry failed before. The first
    failure of an entry at this consumer counts if the batch before it succeeded.
    """

    def __init__(self) -> None:
        self._successes = 0
        self.failing = 0
        """How many batches have failed since the last one that did not."""
        # The successes that there had been when an entry failed last; the latest failure comes last.
        self._failed: OrderedDict[tuple[int, str], int] = OrderedDict()

    def succeeded(self, entries: Iterable[Entry]) -> None:
        """The work on these is done."""
        self._successes += 1
        self.failing = 0
        self.forget(entries)

    def failed(self, entries: Iterable[Entry], *, partly: bool) -> list[Entry]:
        """The work on these has failed; those of them that are excused.

        Args:
            partly: it has succeeded on others of the same batch.
        """
        works = self._successes > 0 and not self.failing
        excused = []
        for entry in entries:
            key = entry.shard, entry.id
            before = self._failed.pop(key, None)
            if not (works if before is None else before < self._successes):
                excused.append(entry)
            self._failed[key] = self._successes
        while len(self._failed) > _REMEMBERED:
            self._failed.popitem(last=False)
        if not partly:
            self.failing += 1
        return excused

    def forget(self, entries: Iterable[Entry]) -> None:
        """Nothing more will become of these."""
        for entry in entries:
            self._failed.pop((entry.shard, entry.id), None)
