"""Accepted and refused events over time, as the hot routes have counted them."""

import time
from collections import Counter
from dataclasses import dataclass, field

import ingest_hot

SLOT = 5  # seconds that are counted together
MINUTES = 5  # that are shown
OUTCOMES = {
    "accepted": "Accepted",
    "limited": "Over the limit",
    "dropped": "Held back by clients",
    "invalid": "Invalid",
    "duplicate": "Sent twice",
    "unavailable": "No room",
}


@dataclass(frozen=True)
class Counts:
    """What became of events in the last minutes: a number for each slot of time, oldest first."""

    seconds: list[int]
    slots: dict[str, list[int]] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """The sum of each outcome."""
        return {outcome: sum(numbers) for outcome, numbers in self.slots.items()}

    @property
    def rows(self) -> list[tuple[str, str, int]]:
        """Each outcome with its words and its sum."""
        return [(outcome, OUTCOMES[outcome], total) for outcome, total in self.totals.items()]

    def as_dict(self) -> dict[str, object]:
        """For the chart."""
        return {"seconds": self.seconds, "slots": self.slots, "totals": self.totals, "slot": SLOT}


async def counts(project_id: int = 0) -> Counts:
    """The counts of a project, or of all if it is 0."""
    now = int(time.time())
    last = now - now % SLOT
    seconds = list(range(last - MINUTES * 60 + SLOT, last + 1, SLOT))
    first = seconds[0] // 60
    found: Counter[tuple[int, str]] = Counter()
    for second, outcome, number in await ingest_hot.aread_counts(project_id, first, now // 60 - first + 1):
        found[second, outcome] += number
    return Counts(seconds, {outcome: [found[second, outcome] for second in seconds] for outcome in OUTCOMES})
