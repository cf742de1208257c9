"""The section of the report on admission: its targets, one table a scenario, and the plot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import chart
from admission import ADMISSION_OPERATIONS, GATES
from clients import (
    ADMISSION,
    ADMISSION_SECTION,
    CACHE_CALLS,
    CACHE_CALLS_AGAIN,
    CACHE_CALLS_MANY,
    INCRBY,
    INCRBY_AGAIN,
    LIMITS,
    LIMITS_AGAIN,
    NO_DENY_CACHE,
)
from scenarios import SCENARIOS, Scenario
from tables import RATIOS, RATIOS_RULE, Cell, Cells, Target, failure, heading, panel, ratio, titles, verdict, versions

TEXT = """\
## Admission

One throttle, and a gate of three throttles, two quotas and the enqueue of an event of half a kilobyte. This project's
gate is one call, atomic, and one round trip; the others ask one limit after the other, and then add the entry: six
round trips with the libraries, eleven with cache calls, and what a later limit refuses the earlier ones have charged.
Each contestant was seen to refuse what is over each of its limits, and the stream to hold what was admitted and no
more, before it was timed. While it is timed nothing is refused, but for the last table.

![Admission](admission.svg)
"""

TARGETS_TEXT = """\
The ratio is that of this project's figure to the other's: of the best rounds, which decide, and round by round; the
control is the other divided by itself, measured once more in the same run.
"""

READ_TEXT = """\
The bare INCRBY among the gates is the one of the throttles' table. The server's CPU is that of its process. A client
whose CPU is as much as its wall time used one core, and was itself what limited its rate; where the server's CPU is as
much, the server was. Through the slow network the proxy takes a share of the cores too, the larger the more requests
and connections there are.
"""

FLOOR = 1.5
TARGETS: tuple[Target, ...] = (
    *(
        Target(f"CPU of {title}", (scenario,), INCRBY, "cpu", FLOOR, client=ADMISSION)
        for title, scenario in (
            ("one throttle, 1 at a time", "throttle-1"),
            ("one throttle, 300 at once", "throttle-300"),
            ("one throttle, blocking", "throttle-blocking"),
            ("one throttle, 300 at once, a slow network", "throttle-300-delayed"),
        )
    ),
    Target(
        "rate of the gate, 300 at once, a slow network", ("gate-300-delayed",), LIMITS, "rate", 10.0, True, ADMISSION
    ),
    Target(
        "rate of the gate, 300 at once, a slow network",
        ("gate-300-delayed",),
        CACHE_CALLS,
        "rate",
        5.0,
        True,
        ADMISSION,
    ),
)

AGAIN = (INCRBY_AGAIN, LIMITS_AGAIN, CACHE_CALLS_AGAIN)
PANELS: tuple[tuple[str, str, str], ...] = (
    ("throttle-1", "cpu", "CPU of one throttle, 1 at a time"),
    ("throttle-300", "cpu", "CPU of one throttle, 300 at once"),
    ("gate-1", "cpu", "CPU of the gate, 1 at a time"),
    ("gate-300", "cpu", "CPU of the gate, 300 at once"),
    ("gate-300-delayed", "wall", "Wall time of the gate, 300 at once, replies {latency:g} ms late"),
)


def section(results: dict[str, Any], cells: Cells) -> Iterator[str]:
    names = titles(ADMISSION_SECTION)
    measured = {scenario for client, scenario in cells if client in names}
    if not measured:
        return
    yield TEXT
    for name, title in names.items():
        if name not in AGAIN and (used := versions(results, name)):
            yield f"- {title}: {used}"
    yield ""
    yield "### Targets of admission"
    yield ""
    yield TARGETS_TEXT
    yield f"| figure | to | {RATIOS}"
    yield f"|---|---|{RATIOS_RULE}"
    for target in TARGETS:
        yield f"| {target.title} | {names[target.to]} | {verdict(cells, target)} |"
    yield ""
    yield from careful_note(cells)
    yield READ_TEXT
    for scenario in SCENARIOS:
        if scenario.name in measured and scenario.operation in ADMISSION_OPERATIONS:
            yield f"### {heading(results, scenario)}"
            yield ""
            yield from table(cells, scenario, names)


def careful_note(cells: Cells) -> Iterator[str]:
    """The peer at its best: the target names the plain way, in which every counter is read by itself."""
    value = ratio(cells, "gate-300-delayed", CACHE_CALLS_MANY, "rate", ADMISSION)
    if value is not None:
        yield "For reference, the last rate to that of django-vcache 3.2 with all counters read by one"
        yield f"`aget_many`, seven round trips: {value.best:.2f}, round by round {value.spread}."
        yield ""


def table(cells: Cells, scenario: Scenario, names: dict[str, str]) -> Iterator[str]:
    """Every contestant's figures, and what this project's are divided by them."""
    yield (
        "| client | CPU µs/op | median | wall µs/op | ops/s | median | server CPU µs/op | connections |"
        " our CPU ÷ this | our rate ÷ this |"
    )
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    ours = cells.get((ADMISSION, scenario.name))
    for name, title in names.items():
        if (cell := cells.get((name, scenario.name))) is not None:
            yield row(title, cell, ours)
    if scenario.operation in GATES and (floor := cells.get((INCRBY, scenario.name.replace("gate", "throttle")))):
        yield row(f"{names[INCRBY]}, as above", floor, ours)
    yield ""


def row(title: str, cell: Cell | str, ours: Cell | str | None) -> str:
    if isinstance(cell, str):
        return f"| {title} | {failure(cell)} | | | | | | | | |"
    best, middle = cell.best, cell.middle
    shares = "- | -"
    if isinstance(ours, Cell):
        shares = f"{ours.best.cpu / best.cpu:.3g} | {ours.best.rate / best.rate:.3g}"
    return (
        f"| {title} | {best.cpu:.1f} | {middle.cpu:.1f} | {best.wall:.1f} | {best.rate:,.0f} | {middle.rate:,.0f} |"
        f" {best.server:.1f} | {cell.connections} | {shares} |"
    )


def panels(results: dict[str, Any], cells: Cells) -> Iterator[chart.Panel]:
    """CPU of a throttle and of the gate, and through the slow network the gate's wall time, its rate's inverse."""
    names = [name for name in titles(ADMISSION_SECTION) if name not in AGAIN]
    scenarios = {scenario.name: scenario for scenario in SCENARIOS}
    for name, figure, title in PANELS:
        scenario = replace(scenarios[name], title=title.format(latency=results["latency_ms"]))
        yield from panel(cells, scenario, names, (ADMISSION, NO_DENY_CACHE), figure=figure)


def draw(drawn: tuple[chart.Panel, ...]) -> str:
    note = "Microseconds for each admission; CPU of all threads of the client's process. Shorter is better"
    return chart.draw("Admission: one throttle, and a gate of six parts", drawn, note)
