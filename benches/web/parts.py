"""The parts of a run: which rows are loaded how, how often and for how long."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import rows
from rows import Row

CONNECTIONS = 300
SEED_RATE_CONNECTIONS = 250
SEED_RATE = 1000.0
WARMUP = 2.0


class PartError(Exception):
    """A part cannot be measured after those that were."""


@dataclass(frozen=True)
class Part:
    """Rows that are compared with one another.

    Attributes:
        name: how it is asked for, and its key in the JSON.
        title: its heading.
        rows: what is measured.
        connections: how many at once.
        seconds: of load for each measurement.
        rounds: how often each row is measured.
        pinned: the web server on one core, load and Valkey on the others.
        slow: behind the slow network.
        rate: requests a second for all rows; None for as many as each takes.
        share: of the capacity of the slowest row of a group, as the first part measured it, in place of `rate`.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    connections: int = CONNECTIONS
    seconds: float = 10.0
    rounds: int = 5
    pinned: bool = False
    slow: bool = False
    rate: float | None = None
    share: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests come at a fixed rate."""
        return self.rate is not None or self.share is not None

    def rate_for(self, row: Row, cells: Iterable[dict[str, Any]]) -> float | None:
        """The rate of a row, None for as much as it takes.

        Args:
            row: the row.
            cells: what was measured before.

        Raises:
            PartError: a share of a capacity that was not measured.
        """
        if self.share is None:
            return self.rate
        capacities: dict[str, list[float]] = {}
        groups = {each.name: each.group for each in rows.rows()}
        for cell in cells:
            if cell["part"] == "work" and groups.get(cell["row"]) == row.group and "failed" not in cell:
                capacities.setdefault(cell["row"], []).append(cell["rate"])
        if not capacities:
            raise PartError(f"no capacity of the rows of {row.group!r} was measured in the part 'work'")
        return self.share * min(median(rates) for rates in capacities.values())


def parts(seed_rate: float = SEED_RATE) -> tuple[Part, ...]:
    """All parts, in their order."""
    every, seed, latency = tuple(rows.rows()), tuple(rows.seed_rows()), tuple(rows.latency_rows())
    return (
        Part("work", "At full load", every),
        Part("pinned", "At full load, the web server on one core, load and Valkey on the others", every, pinned=True),
        Part("seed", "At full load, behind a slow network", seed, seconds=30, rounds=3, slow=True),
        Part(
            "seed-rate",
            "At one rate, behind a slow network",
            seed,
            connections=SEED_RATE_CONNECTIONS,
            seconds=120,
            rounds=3,
            slow=True,
            rate=seed_rate,
        ),
        Part("half", "At half of the slowest row's capacity", latency, rounds=3, share=0.5),
        Part("most", "At 80 % of the slowest row's capacity", latency, rounds=3, share=0.8),
    )


def chosen(
    every: Iterable[Part], names: Iterable[str], words: Iterable[str], shorten: Callable[[Part], Part]
) -> list[Part]:
    """The parts of these names, all without any, with the rows whose names hold one of these words, all without any.

    Args:
        every: the parts there are.
        names: of parts.
        words: in names of rows.
        shorten: changes a part that is chosen.

    Returns:
        The parts that have rows.
    """
    names, words = set(names), list(words)
    found = []
    for part in every:
        kept = tuple(row for row in part.rows if not words or any(word in row.name for word in words))
        if kept and (not names or part.name in names):
            found.append(shorten(replace(part, rows=kept)))
    return found
