"""The report of a run, as Markdown: every row, the ratios, what was void. The plots are beside it.

Run as ``python benches/web/table.py DIR`` it writes ``README.md`` and the plots again from ``DIR/latest.json``, without
measuring anything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent.parent / "django"))

import plots
import targets
from rows import HANDLERS, WORKS, Row, rows
from targets import Reached, good, middle

JSON = "latest.json"


def write(folder: Path) -> str:
    """Writes the page and the plots of the run whose figures are in a folder, and returns the page."""
    result = json.loads((folder / JSON).read_text())
    drawn = plots.draw(result)
    for name in plots.NAMES:
        (folder / name).unlink(missing_ok=True)
    for name, content in drawn.items():
        (folder / name).write_text(content)
    text = page(result, drawn)
    (folder / "README.md").write_text(text)
    return text


def page(result: dict[str, Any], drawn: Iterable[str] = ()) -> str:
    """The whole page.

    Args:
        result: what was measured.
        drawn: the names of the plots.
    """
    lines = [*_head(result), ""]
    for name in drawn:
        lines += [f"![{plots.NAMES[name]}]({name})", ""]
    lines += [*_targets(targets.reached(result)), ""]
    for part in result["parts"]:
        lines += [*_part(result, part), ""]
    return "\n".join(lines)


def _head(result: dict[str, Any]) -> Iterator[str]:
    facts = result["machine"]
    yield "# What a request costs"
    yield ""
    yield f"{facts['date']}, {facts['cores']} cores ({facts['cpu']}), {facts['kernel']}, {facts['server']}."
    yield "[What is measured, and how](../README.md)."
    yield ""
    yield "Figures are medians over the rounds; in brackets the lowest and highest. CPU is that of all processes of the"
    yield "web server. A round with an answer that is no success is void."
    if result["quick"]:
        yield ""
        yield "A quick run: it shows that everything works, and its figures are noise."


def _targets(found: Iterable[Reached]) -> Iterator[str]:
    yield "## Ratios"
    yield ""
    yield "Of medians; in brackets those of single rounds."
    yield ""
    yield "| ratio | part | target | reached | |"
    yield "|---|---|---:|---:|---|"
    for each in found:
        measured = "-" if each.ratio is None else f"{each.ratio:.3g} ({each.lowest:.3g}-{each.highest:.3g})"
        limit = f"{each.target.sign} {each.target.limit_in(each.part):g}"
        yield f"| {each.target.title} | {each.part} | {limit} | {measured} | {each.verdict} |"


def _part(result: dict[str, Any], part: str) -> Iterator[str]:
    facts = result["parts"][part]
    yield f"## {facts['title']}"
    yield ""
    words = f"{facts['connections']} connections, {facts['seconds']:g} s each, {facts['rounds']} rounds"
    if "round_trip_ms" in facts:
        words += (
            f"; {result['latency_ms']:g} ms each way between the site and the server, and a measured round trip of "
            f"{facts['round_trip_ms']:.2f} ms"
        )
    yield f"{words}."
    names = set(facts["rows"])
    last = ""
    for row in rows():
        if row.name not in names:
            continue
        title = WORKS[row.group] + (", with `startproject`'s seven middleware" if row.middleware else "")
        if title != last:
            last = title
            yield from ("", f"### {title[0].upper()}{title[1:]}", "")
            yield (
                "| what | handler | server | requests/s | CPU us | cores busy | average ms | p50 ms | p99 ms "
                "| peak RSS MB | connections |"
            )
            yield "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        yield _line(result, part, row)


def _line(result: dict[str, Any], part: str, row: Row) -> str:
    start = f"| {row.title} | {HANDLERS[row.handler]} | {row.server} |"
    cells = [cell for cell in result["cells"] if cell["part"] == part and cell["row"] == row.name]
    kept = good(result, part, row.name)
    if not kept:
        return f"{start} {cells[-1]['failed'] if cells else 'not run'} | | | | | | | |"
    rates = [cell["rate"] for cell in kept]
    rate = f"{middle(kept, 'rate'):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"
    if asked := kept[-1].get("asked_rate"):
        rate += f" of {asked:,.0f}"
    if len(kept) < len(cells):
        rate += f"; {len(cells) - len(kept)} of {len(cells)} rounds void"
    cpu = middle(kept, "cpu")
    figures = [
        rate,
        _figure(cpu * 1e6),
        f"{cpu * middle(kept, 'rate'):.2f}",
        *(_figure(middle(kept, f"{each}_ms")) for each in ("mean", "p50", "p99")),
        f"{middle(kept, 'rss_peak') / 2**20:,.0f}",
        f"{middle(kept, 'connections'):,.0f}",
    ]
    return f"{start} {' | '.join(figures)} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
