"""The section of the report on a process under load: what waits beside the gets, a loop that lags, a large reply."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from clients import ALONE, LOAD_SECTION, LOOPS_8, READER, WAITING_256
from scenarios import LOAD, Scenario
from tables import RATIOS, RATIOS_RULE, Cell, Cells, Target, failure, ratio, titles, verdict

TEXT = """\
## Under load

What else goes on in the process while its gets are measured, and what it does to them.
"""

BESIDE_TEXT = """\
### Gets beside what waits

Gets on one loop, 1 at a time and 50 at once. Beside them, in the same process, commands wait for something that never
comes: 64 or 256 `aexecute("BLPOP", key, 0)` on the same loop, or one on each of eight other loops in eight threads. The
CPU is that of the whole process, divided by the gets. The control is the first row measured once more.
"""

LAGGING_TEXT = """\
### A loop that lags

300 requests at once on one loop, whose replies come 1 ms late. Each computes for 0.5 to 1 ms, and then asks
`Throttle("5/m")` with its default settings, so the loop comes back to its socket after a quarter of a second. The
server is idle: whatever it did not decide was let through because the client gave up too early. One decision in any
round misses the target.
"""

READER_TEXT = """\
### A loop beside a reader of 32 MiB

A thread gets a value of 32 MiB again and again, through the same alias. A loop has something to do every millisecond,
and gets a small value about as often. The table says how many milliseconds late the loop came to what was due; the row
without a reader is the machine's own share. The median of the rounds decides, since the worst of many thousand
moments depends on what else the machine does.
"""

BESIDES = tuple(scenario for scenario in LOAD if scenario.operation == "abeside")
(LAGGING,) = (scenario for scenario in LOAD if scenario.operation == "alagging")
(READING,) = (scenario for scenario in LOAD if scenario.operation == "areader")

BOUND_MS = 30.0
TARGETS: tuple[Target, ...] = tuple(
    Target(title, (scenario,), ALONE, "cpu", 1.2, client=client)
    for title, scenario in (("1 at a time", "beside-1"), ("50 at once", "beside-50"))
    for client in (WAITING_256, LOOPS_8)
)


def section(cells: Cells) -> Iterator[str]:
    names = titles(LOAD_SECTION)
    measured = {scenario for client, scenario in cells if client in names}
    if not measured:
        return
    yield TEXT
    if any(scenario.name in measured for scenario in BESIDES):
        yield BESIDE_TEXT
        yield from beside_targets(cells, names)
    for scenario in BESIDES:
        if scenario.name in measured:
            yield f"### {scenario.title[0].upper()}{scenario.title[1:]}"
            yield ""
            yield from beside(cells, names, scenario)
    if LAGGING.name in measured:
        yield LAGGING_TEXT
        yield from lagging(cells, names)
    if READING.name in measured:
        yield READER_TEXT
        yield from reader(cells, names)


def body(
    cells: Cells, names: dict[str, str], scenario: Scenario, columns: int, row: Callable[[str, Cell], str]
) -> Iterator[str]:
    """The rows of a table with so many columns after the first, those of clients that failed included."""
    for name, title in names.items():
        cell = cells.get((name, scenario.name))
        if isinstance(cell, Cell):
            yield f"| {title} | {row(name, cell)} |"
        elif cell is not None:
            yield f"| {title} | {failure(cell)} |{' |' * (columns - 1)}"


def beside(cells: Cells, names: dict[str, str], scenario: Scenario) -> Iterator[str]:
    def row(name: str, cell: Cell) -> str:
        best, middle = cell.best, cell.middle
        share = ratio(cells, scenario.name, ALONE, "cpu", name)
        return (
            f"{best.cpu:.1f} | {middle.cpu:.1f} | {best.rate:,.0f} | {middle.rate:,.0f} | {cell.connections} |"
            f" {'-' if share is None else f'{share.best:.2f}'}"
        )

    yield "| beside the gets | CPU µs/get | median | gets/s | median | connections | this CPU ÷ that of the first |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    yield from body(cells, names, scenario, 6, row)
    yield ""


def beside_targets(cells: Cells, names: dict[str, str]) -> Iterator[str]:
    yield f"| CPU of a get | to | {RATIOS}"
    yield f"|---|---|{RATIOS_RULE}"
    for target in TARGETS:
        yield f"| {target.title}, {names[target.client]} | {names[target.to]} | {verdict(cells, target)} |"
    yield ""


def lagging(cells: Cells, names: dict[str, str]) -> Iterator[str]:
    def row(_name: str, cell: Cell) -> str:
        worst, middle = cell.highest.elsewhere, cell.middle.elsewhere
        return f"{1 - worst:.4f} | {1 - middle:.4f} | 1 | {reached(worst == 0)}"

    yield "| | decided by the server: the worst round | median | target | |"
    yield "|---|---:|---:|---:|---|"
    yield from body(cells, names, LAGGING, 4, row)
    yield ""


def reader(cells: Cells, names: dict[str, str]) -> Iterator[str]:
    def row(name: str, cell: Cell) -> str:
        best, middle, highest = cell.best, cell.middle, cell.highest
        bound = f"≤ {BOUND_MS:g} | {reached(middle.worst <= BOUND_MS)}" if name == READER else "- | -"
        return f"{middle.worst:.1f} | {best.worst:.1f} | {highest.worst:.1f} | {middle.p99:.1f} | {bound}"

    yield "| ms late | the worst: median of the rounds | best | highest | 99 of 100 within, median | target | |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    yield from body(cells, names, READING, 6, row)
    yield ""


def reached(is_so: bool) -> str:
    return "reached" if is_so else "**not reached**"
