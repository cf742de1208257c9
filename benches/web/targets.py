"""The ratios that are to be reached, and what a run says of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

Cell = dict[str, Any]

UNDER_DJANGO = "six-django-vcache-3.2-django"
OURS = "six-vcache-ours"
FLOOR = "nothing-none-ours"
BARE = "body-none-bare"


@dataclass(frozen=True)
class Target:
    """A figure of one row over that of another, or by itself if there is no other.

    Attributes:
        title: its words.
        above: the row above the line.
        below: the row below the line; empty for none.
        figure: `cpu`, `rate`, `rss_peak` or `connections`.
        sign: `<=` or `>=`.
        limit: the ratio to reach.
        pinned: the same with the web server on a core by itself; None if it is the same.
        parts: where it is looked for.
    """

    title: str
    above: str
    below: str
    figure: str
    sign: str
    limit: float
    pinned: float | None = None
    parts: tuple[str, ...] = ("work", "pinned")

    def limit_in(self, part: str) -> float:
        return self.pinned if part == "pinned" and self.pinned is not None else self.limit


@dataclass(frozen=True)
class Reached:
    """What a part of a run says of a target.

    Attributes:
        target: the target.
        part: where it was looked for.
        ratio: that of the medians; None if a row has no figure.
        lowest: of single rounds.
        highest: of single rounds.
    """

    target: Target
    part: str
    ratio: float | None
    lowest: float = 0.0
    highest: float = 0.0

    @property
    def verdict(self) -> str:
        if self.ratio is None:
            return "not measured"
        limit = self.target.limit_in(self.part)
        return "yes" if (self.ratio <= limit if self.target.sign == "<=" else self.ratio >= limit) else "no"


TARGETS = (
    Target("async view, our handler / Django's, CPU", FLOOR, "nothing-none-django", "cpu", "<=", 0.20, 0.30),
    Target(
        "the same with `startproject`'s seven middleware",
        "nothing-middleware-none-ours",
        "nothing-middleware-none-django",
        "cpu",
        "<=",
        0.15,
        0.25,
    ),
    Target(
        "sync view under ASGI, our handler / Django's, CPU",
        "nothing_sync-none-ours",
        "nothing_sync-none-django",
        "cpu",
        "<=",
        0.45,
        0.65,
    ),
    Target("six gets, ours on our handler / 3.2 on Django's, rate", OURS, UNDER_DJANGO, "rate", ">=", 6),
    Target("six gets, ours on our handler / django-valkey, rate", OURS, "six-django-valkey-django", "rate", ">=", 8),
    Target("six gets, ours on our handler / RedisCache, rate", OURS, "six-redis-cache-django", "rate", ">=", 30),
    Target("six gets, ours / 3.2, both on our handler, rate", OURS, "six-django-vcache-3.2-ours", "rate", ">=", 1.3),
    Target("six gets / no cache call, our handler, CPU", OURS, FLOOR, "cpu", "<=", 1.4),
    Target("the mix / no cache call, our handler, CPU", "mix-vcache-ours", FLOOR, "cpu", "<=", 1.6),
    Target(
        "ingest as a hot route in ASGI / a view on Django's handler by cache calls of 3.2, CPU",
        "hot_ingest-vcache-early",
        "ingest-django-vcache-3.2-django",
        "cpu",
        "<=",
        0.05,
    ),
    Target(
        "ingest below ASGI / a bare ASGI callable that reads a body, granian, CPU",
        "hot_ingest-vcache-below",
        BARE,
        "cpu",
        "<=",
        0.5,
    ),
    Target("the same with a brotli envelope of 3 KB", "hot_envelope-vcache-below", BARE, "cpu", "<=", 1.0),
    Target(
        "a hot route without Valkey below ASGI / django-bolt, CPU",
        "hot_check-none-below",
        "check-none-bolt",
        "cpu",
        "<=",
        0.7,
    ),
    Target("six gets, ours on our handler / 3.2 on Django's, peak RSS", OURS, UNDER_DJANGO, "rss_peak", "<=", 1.0),
    Target("six gets, ours on our handler, connections", OURS, "", "connections", "<=", 1),
    Target("ingest below ASGI, connections", "hot_ingest-vcache-below", "", "connections", "<=", 1),
    Target(
        "six gets behind a slow network, ours on our handler / 3.2 on Django's, rate",
        OURS,
        UNDER_DJANGO,
        "rate",
        ">=",
        6,
        parts=("seed",),
    ),
    Target(
        "at one rate, ours on our handler / 3.2 on Django's, peak RSS",
        OURS,
        UNDER_DJANGO,
        "rss_peak",
        "<=",
        1.0,
        parts=("seed-rate",),
    ),
)


def good(result: dict[str, Any], part: str, row: str) -> list[Cell]:
    """The rounds of a row that are not void."""
    return [cell for cell in result["cells"] if cell["part"] == part and cell["row"] == row and "failed" not in cell]


def middle(cells: list[Cell], figure: str) -> float:
    return median(cell[figure] for cell in cells)


def reached(result: dict[str, Any]) -> Iterator[Reached]:
    """Each target in each part of a run that looks at it."""
    for target in TARGETS:
        for part in target.parts:
            if part in result["parts"]:
                yield _reached(result, target, part)


def _reached(result: dict[str, Any], target: Target, part: str) -> Reached:
    above = good(result, part, target.above)
    if not target.below:
        if not above:
            return Reached(target, part, None)
        figures = [cell[target.figure] for cell in above]
        return Reached(target, part, median(figures), min(figures), max(figures))
    below = good(result, part, target.below)
    if not above or not below or not middle(below, target.figure):
        return Reached(target, part, None)
    ratio = middle(above, target.figure) / middle(below, target.figure)
    others = {cell["round"]: cell[target.figure] for cell in below}
    rounds = [cell[target.figure] / others[cell["round"]] for cell in above if others.get(cell["round"])]
    return Reached(target, part, ratio, min(rounds, default=ratio), max(rounds, default=ratio))
