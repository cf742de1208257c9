"""Turn the raw figures of a run into Markdown tables: every figure, the targets, what was missed.

Run as ``python benches/django/report.py DIR`` it writes ``README.md`` and ``cpu.svg`` again from
``DIR/latest.json``, without measuring anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import chart
from clients import (
    BASELINE,
    BASELINE_AGAIN,
    BASELINE_RAW,
    CLIENTS,
    DJANGO_REDIS_CACHE,
    OURS,
)
from scenarios import SCENARIOS, Scenario


@dataclass(frozen=True)
class Figures:
    """Microseconds per operation, and memory in MB."""

    cpu: float
    wall: float
    rss: float

    @property
    def rate(self) -> float:
        """Operations a second."""
        return 1e6 / self.wall


@dataclass(frozen=True)
class Cell:
    """One client in one scenario over all rounds: the best of each figure, and the median."""

    best: Figures
    middle: Figures
    connections: int


Cells = dict[tuple[str, str], Cell | str]
"""By client and scenario; a text instead of a cell says why there are no figures."""


def summarise(results: dict[str, Any]) -> Cells:
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in results["cells"]:
        rows.setdefault((row["client"], row["scenario"]), []).append(row)
    return {key: _cell(rounds) for key, rounds in rows.items()}


def _cell(rounds: list[dict[str, Any]]) -> Cell | str:
    good = [row for row in rounds if "failed" not in row]
    if not good:
        return str(rounds[-1]["failed"])
    cpu = [1e6 * row["cpu"] / row["ops"] for row in good]
    wall = [1e6 * row["wall"] / row["ops"] for row in good]
    rss = [row["rss_peak_kb"] / 1024 for row in good]
    return Cell(
        best=Figures(min(cpu), min(wall), min(rss)),
        middle=Figures(median(cpu), median(wall), median(rss)),
        connections=max(row["connections"] for row in good),
    )


@dataclass(frozen=True)
class Ratio:
    """Ours divided by theirs, of the best rounds and of the medians."""

    best: float
    middle: float


def ratio(cells: Cells, scenario: str, to: str, figure: str, client: str = OURS) -> Ratio | None:
    """None where either has no figures."""
    ours, theirs = cells.get((client, scenario)), cells.get((to, scenario))
    if not isinstance(ours, Cell) or not isinstance(theirs, Cell):
        return None
    of = attrgetter(figure)
    return Ratio(of(ours.best) / of(theirs.best), of(ours.middle) / of(theirs.middle))


@dataclass(frozen=True)
class Target:
    """A bound on the ratio of ``figure`` to client ``to``; the worst of ``scenarios`` counts."""

    title: str
    scenarios: tuple[str, ...]
    to: str
    figure: str
    bound: float
    at_least: bool = False

    def measured(self, cells: Cells, client: str = OURS) -> Ratio | None:
        """None as soon as one scenario that was run has no figures."""
        run = [name for name in self.scenarios if (self.to, name) in cells]
        ratios = [ratio(cells, name, self.to, self.figure, client) for name in run]
        known = [value for value in ratios if value is not None]
        if not known or len(known) < len(ratios):
            return None
        return (min if self.at_least else max)(known, key=attrgetter("best"))

    def reached(self, value: float) -> bool:
        return value >= self.bound if self.at_least else value <= self.bound


LOCAL = tuple(scenario.name for scenario in SCENARIOS if not scenario.delayed)

TARGETS: tuple[Target, ...] = (
    Target("CPU of async get, 1 at a time", ("aget-1",), BASELINE, "cpu", 0.65),
    Target("CPU of async get, 50 at once", ("aget-50",), BASELINE, "cpu", 0.40),
    Target("CPU of async get, 300 at once", ("aget-300",), BASELINE, "cpu", 0.40),
    Target("CPU of blocking get, 1 thread", ("get-1",), BASELINE, "cpu", 0.85),
    Target("CPU of blocking get, 8 threads", ("get-8",), BASELINE, "cpu", 0.85),
    Target("wall of blocking get, 1 thread", ("get-1",), BASELINE, "wall", 1.0),
    Target("wall of blocking get, 8 threads", ("get-8",), BASELINE, "wall", 1.0),
    Target("peak RSS, the worst scenario", LOCAL, BASELINE, "rss", 1.0),
    Target("rate of async get, 300 at once", ("aget-300",), DJANGO_REDIS_CACHE, "rate", 15.0, True),
)


def titles() -> dict[str, str]:
    return {client.name: client.title for client in CLIENTS}


def header(results: dict[str, Any]) -> Iterator[str]:
    machine = results["machine"]
    yield "# Measured against the peers"
    yield ""
    yield "Written by `make bench`; how it measures is told in [../django](../django/README.md)."
    yield "Only the ratios of one run mean something: the absolute figures are this machine's."
    if results["quick"]:
        yield ""
        yield "**A quick run: it shows that everything works. Its figures are noise.**"
    yield ""
    yield f"- Date: {machine['date']}, {results['rounds']} round(s)"
    yield f"- Machine: {machine['cores']} cores, {machine['cpu']}, {machine['kernel']}"
    yield f"- Load average when the run began: {machine['load_before']}"
    yield f"- Server: {machine['server']}, on the loopback of the same machine"
    for name, title in titles().items():
        if name != BASELINE_AGAIN and (versions := _versions(results, name)):
            yield f"- {title}: {versions}"
    yield ""


def _versions(results: dict[str, Any], client: str) -> str:
    for row in results["cells"]:
        if row["client"] == client and "versions" in row:
            parts = {"Python": row["python"], **row["versions"]}
            return ", ".join(f"{name} {version}" for name, version in parts.items())
    return ""


def targets_table(cells: Cells) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "This project's figure divided by the peer's: of the best rounds, which decide, and of"
    yield "the medians. The control is django-vcache 3.2 divided by itself, measured once more in the"
    yield "same run: as far as it is from 1, so far chance alone moves the figures of that line."
    yield ""
    yield "| figure | peer | target | best | median | control: best, median | |"
    yield "|---|---|---:|---:|---:|---:|---|"
    for target in TARGETS:
        value = target.measured(cells)
        bound = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        row = f"| {target.title} | {titles()[target.to]} | {bound} |"
        if value is None:
            yield f"{row} - | - | - | not measured |"
            continue
        verdict = "reached" if target.reached(value.best) else "**not reached**"
        yield f"{row} {value.best:.2f} | {value.middle:.2f} | {control(cells, target)} | {verdict} |"
    yield ""
    yield from raw_note(cells)


def control(cells: Cells, target: Target) -> str:
    """The peer of the target against itself; only django-vcache 3.2 is measured twice."""
    value = target.measured(cells, BASELINE_AGAIN) if target.to == BASELINE else None
    return "-" if value is None else f"{value.best:.2f}, {value.middle:.2f}"


def raw_note(cells: Cells) -> Iterator[str]:
    """Our whole cache against the peer's bare driver: what the Django layer leaves of the lead."""
    ratios = [ratio(cells, name, BASELINE_RAW, "cpu") for name in ("aget-1", "aget-50", "aget-300")]
    figures = [f"{value.best:.2f}" for value in ratios if value is not None]
    if len(figures) == len(ratios):
        yield "For reference, CPU of our whole cache to the bare driver of django-vcache 3.2, async"
        yield f"get at 1, 50 and 300 at once: {', '.join(figures)}."
        yield ""


def scenario_table(results: dict[str, Any], cells: Cells, scenario: Scenario) -> Iterator[str]:
    added = f", {results['latency_ms']:g} ms added to every reply" if scenario.delayed else ""
    yield f"## {scenario.title[0].upper()}{scenario.title[1:]}{added}"
    yield ""
    yield ("| client | CPU µs/op | median | wall µs/op | ops/s | peak RSS MB | connections | our CPU ÷ this |")
    yield "|---|---:|---:|---:|---:|---:|---:|---:|"
    for name, title in titles().items():
        cell = cells.get((name, scenario.name))
        if isinstance(cell, str):
            yield f"| {title} | failed: {cell.replace('|', '/')} | | | | | | |"
        elif cell is not None:
            share = ratio(cells, scenario.name, name, "cpu")
            best = cell.best
            yield (
                f"| {title} | {best.cpu:.1f} | {cell.middle.cpu:.1f} | {best.wall:.1f} |"
                f" {best.rate:,.0f} | {best.rss:.1f} | {cell.connections} |"
                f" {'-' if share is None else f'{share.best:.3f}'} |"
            )
    yield ""


def document(results: dict[str, Any]) -> str:
    cells = summarise(results)
    lines = [*header(results), "![CPU per operation](cpu.svg)", "", *targets_table(cells)]
    measured = {scenario for _, scenario in cells}
    for scenario in SCENARIOS:
        if scenario.name in measured:
            lines += scenario_table(results, cells, scenario)
    return "\n".join(lines).rstrip() + "\n"


def panels(cells: Cells) -> Iterator[chart.Panel]:
    """CPU of the gets, for the plot."""
    for scenario in SCENARIOS:
        if scenario.operation not in ("aget", "get") or scenario.delayed:
            continue
        bars = tuple(
            chart.Bar(title, cell.best.cpu, name == OURS)
            for name, title in titles().items()
            if name != BASELINE_AGAIN and isinstance(cell := cells.get((name, scenario.name)), Cell)
        )
        if bars:
            yield chart.Panel(scenario.title, bars)


def write(folder: Path) -> None:
    """Write ``README.md`` and ``cpu.svg`` beside the ``latest.json`` of ``folder``."""
    results = json.loads((folder / "latest.json").read_text())
    (folder / "README.md").write_text(document(results))
    plot = chart.draw("CPU per operation, microseconds", tuple(panels(summarise(results))))
    (folder / "cpu.svg").write_text(plot)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
