"""Turn the raw figures of a run into Markdown tables: every figure, the targets, what was missed.

Run as ``python benches/django/report.py DIR`` it writes ``README.md`` and the plots again from
``DIR/latest.json``, without measuring anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import admission_report
import chart
import fleet_report
import load_report
from clients import (
    BARE,
    BASELINE,
    BASELINE_AGAIN,
    BASELINE_RAW,
    BASELINE_RAW_AGAIN,
    CACHE_OPERATIONS,
    DJANGO_REDIS_CACHE,
    EMPTY,
    EXECUTE,
    FUTURE,
    GUEST,
    HOT_PATHS_SECTION,
    OURS,
    PROXY,
    REFUSAL,
    SHARED,
    TURN,
    USUAL,
    WHEEL,
    WHEEL_AGAIN,
)
from scenarios import SCENARIOS, Scenario
from tables import (
    RATIOS,
    RATIOS_RULE,
    Cell,
    Cells,
    Target,
    all_titles,
    failure,
    heading,
    panel,
    ratio,
    rows,
    summarise,
    titles,
    verdict,
    versions,
)

LOCAL = tuple(scenario.name for scenario in SCENARIOS if not scenario.delayed and not scenario.over)

TARGETS: tuple[Target, ...] = (
    Target("CPU of async get, 1 at a time", ("aget-1",), BASELINE, "cpu", 0.65),
    Target("CPU of async get, 50 at once", ("aget-50",), BASELINE, "cpu", 0.40),
    Target("CPU of async get, 300 at once", ("aget-300",), BASELINE, "cpu", 0.40),
    Target("CPU of blocking get, 1 thread", ("get-1",), BASELINE, "cpu", 0.85),
    Target("CPU of blocking get, 8 threads", ("get-8",), BASELINE, "cpu", 0.75),
    Target("wall of blocking get, 1 thread", ("get-1",), BASELINE, "wall", 1.0),
    Target("wall of blocking get, 8 threads", ("get-8",), BASELINE, "wall", 1.0),
    Target("peak RSS, the worst scenario", LOCAL, BASELINE, "rss", 1.0),
    Target("rate of async get, 300 at once", ("aget-300",), DJANGO_REDIS_CACHE, "rate", 15.0, True),
    Target("CPU of django_vcache.cache, 300 at once", ("aget-300",), BARE, "cpu", 2.0, client=SHARED),
    Target("CPU of django_vcache.cache, 300 at once", ("aget-300",), BASELINE, "cpu", 0.25, client=SHARED),
)

THIRD = 1 / 3
HOT_TARGETS: tuple[Target, ...] = (
    Target("a read, 1 at a time", ("aget-1",), WHEEL, "cpu", 1.15, client=GUEST),
    Target("a read, 50 at once", ("aget-50",), WHEEL, "cpu", 1.15, client=GUEST),
    Target("a read, 300 at once", ("aget-300",), WHEEL, "cpu", 1.15, client=GUEST),
    Target("a read, 50 at once", ("aget-50",), BASELINE_RAW, "cpu", 0.35, client=WHEEL),
    Target("a read, 300 at once", ("aget-300",), BASELINE_RAW, "cpu", 0.35, client=WHEEL),
    Target("a read, 50 at once", ("aget-50",), BASELINE_RAW, "cpu", 0.35, client=GUEST),
    Target("a read, 300 at once", ("aget-300",), BASELINE_RAW, "cpu", 0.35, client=GUEST),
    Target("five commands, 1 at a time", ("five-1",), EXECUTE, "cpu", THIRD, client=GUEST),
    Target("five commands, 50 at once", ("five-50",), EXECUTE, "cpu", THIRD, client=GUEST),
    Target("five commands, 1 at a time", ("five-1",), USUAL, "cpu", THIRD, client=GUEST),
    Target("five commands, 50 at once", ("five-50",), USUAL, "cpu", THIRD, client=GUEST),
    Target("five commands, 50 at once, a slow network", ("five-50-delayed",), EXECUTE, "cpu", THIRD, client=GUEST),
)
READERS = (OURS, BASELINE_RAW, BASELINE_RAW_AGAIN, WHEEL, WHEEL_AGAIN, GUEST)
READS = ("aget-1", "aget-50", "aget-300")
FIVES = ("five-1", "five-50")
NOTHINGS = ("nothing", "anothing")


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
    yield f"- Date: {machine['date']}, {results['rounds']} round(s), fewer where no target is decided"
    yield f"- Machine: {machine['cores']} cores, {machine['cpu']}, {machine['kernel']}"
    yield f"- Load average when the run began: {machine['load_before']}"
    yield f"- Server: {machine['server']}, on the loopback of the same machine"
    for name, title in titles().items():
        if name not in (BASELINE_AGAIN, PROXY, SHARED) and (used := versions(results, name)):
            yield f"- {title}: {used}"
    yield ""


def targets_table(cells: Cells) -> Iterator[str]:
    yield "## Targets"
    yield ""
    yield "This project's figure divided by the peer's: the best of all rounds of each, which decide,"
    yield "and beside it what the ratio was round by round. The control is django-vcache 3.2 divided"
    yield "by itself, measured once more in the same run: as far as it is from 1, so far chance alone"
    yield "moves the figures of that line."
    yield ""
    yield f"| figure | peer | {RATIOS}"
    yield f"|---|---|{RATIOS_RULE}"
    for target in TARGETS:
        yield f"| {target.title} | {titles()[target.to]} | {verdict(cells, target)} |"
    yield ""
    yield from raw_note(cells)


def raw_note(cells: Cells) -> Iterator[str]:
    """Our whole cache against the peer's bare driver: what the Django layer leaves of the lead."""
    ratios = [ratio(cells, name, BASELINE_RAW, "cpu") for name in ("aget-1", "aget-50", "aget-300")]
    figures = [f"{value.best:.2f}" for value in ratios if value is not None]
    if len(figures) == len(ratios):
        yield "For reference, CPU of our whole cache to the bare driver of django-vcache 3.2, async"
        yield f"get at 1, 50 and 300 at once: {', '.join(figures)}."
        yield ""


def scenario_table(results: dict[str, Any], cells: Cells, scenario: Scenario) -> Iterator[str]:
    yield f"## {heading(results, scenario)}"
    yield ""
    yield from rows(cells, scenario, titles(), OURS, "our")


HOT_PATHS_TEXT = """\
## Hot paths

A hot path is a function in Rust that Python awaits once. Those in the wheel are `django_vcache.hotpaths`; the
guest is [a crate of its own](../guest), compiled apart from the wheel, and runs on the wheel's connection.
Each ratio is the CPU of the one divided by that of the other: of the best rounds, which decide, and round by round;
the control is the other divided by itself, measured once more in the same run.

![CPU of hot paths](hotpaths.svg)
"""

PRICE_TEXT = """\
### The price of a call that does nothing

Nanoseconds of CPU for one call, with no word to the server; the turn of the `for` loop around it is included.
What is awaited is done when the call returns, except in the row of the loop's next turn, which is the least that
waiting for somebody else can cost. The wheel has no hot path that does nothing: `allow` with a limit of 0 comes
closest, but reads four arguments and makes a `Decision`.
"""


def hot_paths(results: dict[str, Any], cells: Cells) -> Iterator[str]:
    measured = {scenario for client, scenario in cells if client in titles(HOT_PATHS_SECTION)}
    if not measured:
        return
    yield HOT_PATHS_TEXT
    yield f"| CPU of | by | to | {RATIOS}"
    yield f"|---|---|---|{RATIOS_RULE}"
    for target in HOT_TARGETS:
        by, to = all_titles()[target.client], all_titles()[target.to]
        yield f"| {target.title} | {by} | {to} | {verdict(cells, target)} |"
    yield ""
    for scenario in SCENARIOS:
        reads = scenario.operation == "aget"
        if scenario.name not in measured or not (reads or scenario.operation == "afive"):
            continue
        yield f"### {heading(results, as_read(scenario))}"
        yield ""
        names = {name: title for name, title in all_titles().items() if name in READERS or not reads}
        yield from rows(cells, scenario, names, GUEST, "guest's")
    yield from price_table(cells)


def as_read(scenario: Scenario) -> Scenario:
    """Among the hot paths a get is one of several ways to read."""
    return replace(scenario, title=scenario.title.replace("async get", "a read"))


def price_table(cells: Cells) -> Iterator[str]:
    names = [name for name in all_titles() if any((name, scenario) in cells for scenario in NOTHINGS)]
    if not names:
        return
    yield PRICE_TEXT
    yield "| | blocking: best | median | awaited: best | median |"
    yield "|---|---:|---:|---:|---:|"
    for name in names:
        figures = " | ".join(price(cells.get((name, scenario))) for scenario in NOTHINGS)
        yield f"| {all_titles()[name]} | {figures} |"
    yield ""


def price(cell: Cell | str | None) -> str:
    if cell is None:
        return "- | -"
    if isinstance(cell, str):
        return f"{failure(cell)} | -"
    return f"{1000 * cell.best.cpu:,.0f} | {1000 * cell.middle.cpu:,.0f}"


def document(results: dict[str, Any]) -> str:
    cells = summarise(results)
    lines = [*header(results), "![CPU per operation](cpu.svg)", "", *targets_table(cells)]
    measured = {scenario for client, scenario in cells if client in titles()}
    for scenario in SCENARIOS:
        if scenario.name in measured and scenario.operation in CACHE_OPERATIONS:
            lines += scenario_table(results, cells, scenario)
    lines += hot_paths(results, cells)
    lines += admission_report.section(results, cells)
    lines += load_report.section(cells)
    lines += fleet_report.section(cells)
    return "\n".join(lines).rstrip() + "\n"


def panels(cells: Cells) -> Iterator[chart.Panel]:
    """CPU of the gets, for the plot."""
    names = [name for name in titles() if name != BASELINE_AGAIN]
    for scenario in SCENARIOS:
        if scenario.operation in ("aget", "get") and not scenario.delayed:
            yield from panel(cells, scenario, names, (OURS, PROXY, SHARED))


def hot_panels(cells: Cells) -> Iterator[chart.Panel]:
    """CPU of reads, of five commands and of nothing, for the plot of the hot paths."""
    for scenario in SCENARIOS:
        if scenario.name in READS:
            names: tuple[str, ...] = (BASELINE_RAW, OURS, WHEEL, GUEST)
        elif scenario.name in FIVES:
            names = (BASELINE_RAW, EXECUTE, USUAL, GUEST)
        elif scenario.name == "anothing":
            names = (EMPTY, FUTURE, TURN, REFUSAL, GUEST)
        else:
            continue
        yield from panel(cells, as_read(scenario), names, (WHEEL, REFUSAL, GUEST), cut=False)


def write(folder: Path) -> None:
    """Write ``README.md`` and the plots beside the ``latest.json`` of ``folder``."""
    results = json.loads((folder / "latest.json").read_text())
    (folder / "README.md").write_text(document(results))
    cells = summarise(results)
    cpu = chart.draw("CPU per operation, microseconds", tuple(panels(cells)))
    (folder / "cpu.svg").write_text(cpu)
    if hot := tuple(hot_panels(cells)):
        (folder / "hotpaths.svg").write_text(chart.draw("CPU per call of a hot path, microseconds", hot))
    if admitted := tuple(admission_report.panels(results, cells)):
        (folder / "admission.svg").write_text(admission_report.draw(admitted))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
