"""What the sections of the report are made of: the figures of all rounds, ratios, targets, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from operator import attrgetter
from statistics import median
from typing import Any

import chart
from clients import (
    ALONE,
    ALONE_AGAIN,
    BASELINE,
    BASELINE_AGAIN,
    BASELINE_RAW,
    BASELINE_RAW_AGAIN,
    CACHE_CALLS,
    CACHE_CALLS_AGAIN,
    CACHE_SECTION,
    CLIENTS,
    EXECUTE,
    EXECUTE_AGAIN,
    INCRBY,
    INCRBY_AGAIN,
    LIMITS,
    LIMITS_AGAIN,
    OURS,
    WHEEL,
    WHEEL_AGAIN,
)
from scenarios import Scenario

AGAIN = {
    BASELINE: BASELINE_AGAIN,
    BASELINE_RAW: BASELINE_RAW_AGAIN,
    WHEEL: WHEEL_AGAIN,
    EXECUTE: EXECUTE_AGAIN,
    INCRBY: INCRBY_AGAIN,
    LIMITS: LIMITS_AGAIN,
    CACHE_CALLS: CACHE_CALLS_AGAIN,
    ALONE: ALONE_AGAIN,
}
"""The peers that are measured twice."""


@dataclass(frozen=True)
class Figures:
    """Microseconds per operation, and memory in MB. ``server`` is the server's CPU, if it was measured.

    ``worst`` and ``p99`` are by how many milliseconds a loop was late, and ``elsewhere`` is the share of decisions that
    the server did not make: where they were measured.
    """

    cpu: float
    wall: float
    rss: float
    server: float = 0.0
    worst: float = 0.0
    p99: float = 0.0
    elsewhere: float = 0.0

    @property
    def rate(self) -> float:
        """Operations a second."""
        return 1e6 / self.wall


@dataclass(frozen=True)
class Cell:
    """One client in one scenario: the figures of each round by its number."""

    rounds: dict[int, Figures]
    connections: int

    @property
    def best(self) -> Figures:
        """The best of each figure, whichever rounds they are of."""
        return self._each(min)

    @property
    def middle(self) -> Figures:
        return self._each(median)

    @property
    def highest(self) -> Figures:
        return self._each(max)

    def _each(self, pick: Callable[[Sequence[float]], float]) -> Figures:
        return Figures(*(pick(figures) for figures in zip(*map(astuple, self.rounds.values()), strict=True)))


Cells = dict[tuple[str, str], Cell | str]
"""By client and scenario; a text instead of a cell says why there are no figures."""


def summarise(results: dict[str, Any]) -> Cells:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results["cells"]:
        found.setdefault((row["client"], row["scenario"]), []).append(row)
    return {key: _cell(rows) for key, rows in found.items()}


def _cell(rows: list[dict[str, Any]]) -> Cell | str:
    good = {row.get("round", number): row for number, row in enumerate(rows) if "failed" not in row}
    if not good:
        return str(rows[-1]["failed"])
    return Cell(
        rounds={number: _figures(row) for number, row in good.items()},
        connections=max(row["connections"] for row in good.values()),
    )


def _figures(row: dict[str, Any]) -> Figures:
    each = 1e6 / row["ops"]
    return Figures(
        cpu=each * row["cpu"],
        wall=each * row["wall"],
        rss=row["rss_peak_kb"] / 1024,
        server=each * row.get("server_cpu", 0.0),
        worst=row.get("worst_ms", 0.0),
        p99=row.get("p99_ms", 0.0),
        elsewhere=1 - row["by_server"] / row["decisions"] if "decisions" in row else 0.0,
    )


@dataclass(frozen=True)
class Ratio:
    """Ours divided by theirs: of the best of each, and round by round."""

    best: float
    rounds: tuple[float, ...]

    @property
    def spread(self) -> str:
        """The median of the rounds' ratios, and the least and the largest of them."""
        return f"{median(self.rounds):.2f} ({min(self.rounds):.2f} to {max(self.rounds):.2f})" if self.rounds else "-"


def ratio(cells: Cells, scenario: str, to: str, figure: str, client: str = OURS) -> Ratio | None:
    """None where either has no figures."""
    ours, theirs = cells.get((client, scenario)), cells.get((to, scenario))
    if not isinstance(ours, Cell) or not isinstance(theirs, Cell):
        return None
    of = attrgetter(figure)
    both = sorted(ours.rounds.keys() & theirs.rounds.keys())
    rounds = tuple(of(ours.rounds[number]) / of(theirs.rounds[number]) for number in both)
    return Ratio(of(ours.best) / of(theirs.best), rounds)


@dataclass(frozen=True)
class Target:
    """A bound on ``client``'s ratio of ``figure`` to client ``to``; the worst of ``scenarios`` counts."""

    title: str
    scenarios: tuple[str, ...]
    to: str
    figure: str
    bound: float
    at_least: bool = False
    client: str = OURS

    def measured(self, cells: Cells, client: str | None = None) -> Ratio | None:
        """None as soon as one scenario that was run has no figures."""
        run = [name for name in self.scenarios if (self.to, name) in cells]
        ratios = [ratio(cells, name, self.to, self.figure, client or self.client) for name in run]
        known = [value for value in ratios if value is not None]
        if not known or len(known) < len(ratios):
            return None
        return (min if self.at_least else max)(known, key=attrgetter("best"))

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


def titles(section: str = CACHE_SECTION) -> dict[str, str]:
    """What the clients of a section are called."""
    return {client.name: client.title for client in CLIENTS if client.section == section}


def all_titles() -> dict[str, str]:
    return {client.name: client.title for client in CLIENTS}


def versions(results: dict[str, Any], client: str) -> str:
    """What a client ran on and with, or nothing if it did not run."""
    for row in results["cells"]:
        if row["client"] == client and "versions" in row:
            parts = {"Python": row["python"], **row["versions"]}
            return ", ".join(f"{name} {version}" for name, version in parts.items())
    return ""


def heading(results: dict[str, Any], scenario: Scenario) -> str:
    added = f", {results['latency_ms']:g} ms added to every reply" if scenario.delayed else ""
    return f"{scenario.title[0].upper()}{scenario.title[1:]}{added}"


RATIOS = "target | best | median of the rounds (range) | control: best; median (range) | |"
RATIOS_RULE = "---:|---:|---:|---:|---|"


def verdict(cells: Cells, target: Target) -> str:
    """Cells of a table, as RATIOS heads them: the bound, the ratios, the control and whether the target was reached."""
    bound = f"{'≥' if target.at_least else '≤'} {target.bound:.3g}"
    value = target.measured(cells)
    if value is None:
        return f"{bound} | - | - | - | not measured"
    reached = "reached" if target.reached(value.best) else "**not reached**"
    return f"{bound} | {value.best:.2f} | {value.spread} | {control(cells, target)} | {reached}"


def control(cells: Cells, target: Target) -> str:
    """The peer of the target against itself, if it is measured twice."""
    again = AGAIN.get(target.to)
    value = target.measured(cells, again) if again else None
    return "-" if value is None else f"{value.best:.2f}; {value.spread}"


def rows(cells: Cells, scenario: Scenario, names: dict[str, str], ours: str, whose: str) -> Iterator[str]:
    """One table: the clients called ``names``, and the share that ``ours`` has of each one's CPU."""
    yield f"| client | CPU µs/op | median | wall µs/op | ops/s | peak RSS MB | connections | {whose} CPU ÷ this |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, title in names.items():
        cell = cells.get((name, scenario.name))
        if isinstance(cell, str):
            yield f"| {title} | {failure(cell)} | | | | | | |"
        elif cell is not None:
            share = ratio(cells, scenario.name, name, "cpu", ours)
            best = cell.best
            yield (
                f"| {title} | {best.cpu:.1f} | {cell.middle.cpu:.1f} | {best.wall:.1f} |"
                f" {best.rate:,.0f} | {best.rss:.1f} | {cell.connections} |"
                f" {'-' if share is None else f'{share.best:.3f}'} |"
            )
    yield ""


def failure(reason: str) -> str:
    return f"failed: {reason.replace('|', '/')}"


def panel(
    cells: Cells,
    scenario: Scenario,
    names: Sequence[str],
    ours: Sequence[str],
    cut: bool = True,
    figure: str = "cpu",
) -> Iterator[chart.Panel]:
    of = attrgetter(figure)
    bars = tuple(
        chart.Bar(all_titles()[name], of(cell.best), name in ours)
        for name in names
        if isinstance(cell := cells.get((name, scenario.name)), Cell)
    )
    if bars:
        yield chart.Panel(scenario.title, bars, cut)
