"""The table and the targets of a run, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

from rows import Row

TITLES = {
    "nothing": "an async view without a cache call",
    "nothing-middleware": "the same with `startproject`'s seven middleware",
    "nothing_sync": "a sync view without a cache call",
    "nothing_sync-middleware": "the same with `startproject`'s seven middleware",
    "six": "six `await cache.aget`",
    "mix": "three `aget`, an `aget_many` of two, an `aincr` and an `aset`",
    "six_sync": "six `cache.get`",
}
HANDLERS = {"django": "Django's", "ours": "ours", "wsgi": "WSGI"}

# Each target: its words, the row above and the row below the line, what is compared, and the ratio to reach.
TARGETS = (
    ("async view, our handler / Django's, CPU", "nothing-none-ours", "nothing-none-django", "cpu", "<=", (0.20, 0.30)),
    (
        "the same with the seven middleware",
        "nothing-middleware-none-ours",
        "nothing-middleware-none-django",
        "cpu",
        "<=",
        (0.15, 0.25),
    ),
    ("sync view under ASGI", "nothing_sync-none-ours", "nothing_sync-none-django", "cpu", "<=", (0.45, 0.65)),
    (
        "six gets, ours on our handler / django-vcache 3.2 on Django's, rate",
        "six-vcache-ours",
        "six-django-vcache-3.2-django",
        "rate",
        ">=",
        (6, 6),
    ),
    ("the same / django-valkey", "six-vcache-ours", "six-django-valkey-django", "rate", ">=", (8, 8)),
    ("the same / RedisCache", "six-vcache-ours", "six-redis-cache-django", "rate", ">=", (30, 30)),
    (
        "the same / django-vcache 3.2 on our handler",
        "six-vcache-ours",
        "six-django-vcache-3.2-ours",
        "rate",
        ">=",
        (1.3, 1.3),
    ),
    ("six gets / no cache call, our handler, CPU", "six-vcache-ours", "nothing-none-ours", "cpu", "<=", (1.4, 1.4)),
    ("the mix / no cache call, our handler, CPU", "mix-vcache-ours", "nothing-none-ours", "cpu", "<=", (1.6, 1.6)),
)


def write(result: dict[str, Any], rows: Iterable[Row]) -> str:
    """The whole page."""
    return "\n".join([*_head(result), "", *_rows(result, rows), "", *_targets(result), ""])


def _head(result: dict[str, Any]) -> Iterator[str]:
    facts = result["machine"]
    yield "# Django's request path"
    yield ""
    yield (
        f"{facts['date']}, {facts['cores']} cores ({facts['cpu']}), {facts['kernel']}, {facts['server']}; "
        f"granian with one worker, {result['connections']} connections, {result['seconds']:g} s each"
        + (f", {result['latency_ms']:g} ms before each reply of the server" if result["latency_ms"] else "")
        + (", the server pinned to one core" if result["pinned"] else "")
        + "."
    )
    yield "Medians over the rounds; in brackets the lowest and highest. CPU is that of all processes of the web server."
    if result["quick"]:
        yield ""
        yield "A quick run: it shows that everything works, and its figures are noise."


def _rows(result: dict[str, Any], rows: Iterable[Row]) -> Iterator[str]:
    last = ""
    for row in rows:
        view = row.view + ("-middleware" if row.middleware else "")
        title = TITLES[view]
        if title != last:
            last = title
            yield ""
            yield f"## {title[0].upper()}{title[1:]}"
            yield ""
            yield "| cache | handler | requests/s | CPU us | mean ms | p99 ms | peak RSS MB | connections |"
            yield "|---|---|---:|---:|---:|---:|---:|---:|"
        good = _good(result, row.name)
        start = f"| {row.backend.title} | {HANDLERS[row.handler]} |"
        if not good:
            why = [cell["failed"] for cell in result["cells"] if cell["row"] == row.name]
            yield f"{start} {why[-1] if why else 'not run'} | | | | | |"
            continue
        rates = [cell["rate"] for cell in good]
        yield (
            f"{start} {median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f}) | {_median(good, 'cpu') * 1e6:,.0f} "
            f"| {_median(good, 'mean_ms'):,.0f} | {_median(good, 'p99_ms'):,.0f} "
            f"| {_median(good, 'rss_peak') / 2**20:,.0f} | {_median(good, 'connections'):,.0f} |"
        )


def _good(result: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [cell for cell in result["cells"] if cell["row"] == name and "failed" not in cell]


def _median(cells: list[dict[str, Any]], key: str) -> float:
    return median(cell[key] for cell in cells)


def _targets(result: dict[str, Any]) -> Iterator[str]:
    yield "## Ratios"
    yield ""
    yield "| | target | measured |"
    yield "|---|---:|---:|"
    for words, above, below, key, sign, (unpinned, pinned) in TARGETS:
        target = pinned if result["pinned"] else unpinned
        first, second = _good(result, above), _good(result, below)
        measured = f"{_median(first, key) / _median(second, key):.2f}" if first and second else "-"
        yield f"| {words} | {sign} {target:g} | {measured} |"
