"""The plots of a run: bars by the writer that the other bench has, one panel for each group of rows."""

from __future__ import annotations

from typing import Any

import chart
from rows import NONE, Row, rows, seed_rows
from targets import good, middle

NAMES = {
    "seed.svg": "Requests a second behind a slow network",
    "views.svg": "CPU of views",
    "ingest.svg": "CPU of ingest",
}
"""The files, and what each shows."""

CPU_NOTE = "Microseconds of all processes of the web server; shorter is better. Each panel has its own scale"
RATE_NOTE = "300 connections, one worker; longer is better"


def draw(result: dict[str, Any]) -> dict[str, str]:
    """The plots that a run has figures for: their files and their content."""
    drawn = {}
    for name, title, note, panels in (
        ("seed.svg", "Six gets of a Django view, requests a second", _slow(result), _seed(result)),
        ("views.svg", "A request to a Django view, CPU", CPU_NOTE, _views(result)),
        ("ingest.svg", "A request to an ingest endpoint, CPU", CPU_NOTE, _ingest(result)),
    ):
        kept = tuple(panel for panel in panels if len(panel.bars) > 1)
        if kept:
            drawn[name] = chart.draw(title, kept, note)
    return drawn


def _slow(result: dict[str, Any]) -> str:
    trip = result["parts"].get("seed", {}).get("round_trip_ms")
    return RATE_NOTE if trip is None else f"Valkey is {trip:.1f} ms away. {RATE_NOTE}"


def _seed(result: dict[str, Any]) -> list[chart.Panel]:
    panels = []
    for handler in ("django", "ours"):
        kept = [row for row in seed_rows() if row.handler == handler]
        title = "On Django's handler" if handler == "django" else "On our handler"
        panels.append(_panel(result, "seed", title, kept, "rate"))
    # One scale for both: the handlers are what is compared.
    most = max((bar.value for panel in panels for bar in panel.bars), default=0)
    return [chart.Panel(panel.title, panel.bars, cut=False, most=most) for panel in panels]


def _views(result: dict[str, Any]) -> list[chart.Panel]:
    def of(view: str, middleware: bool = False) -> list[Row]:
        return [row for row in rows() if row.view == view and row.middleware is middleware and row.handler != "nginx"]

    return [
        _panel(result, "work", "An async view that does nothing", of("nothing")),
        _panel(result, "work", "The same with startproject's seven middleware", of("nothing", middleware=True)),
        _panel(result, "work", "A sync view that does nothing", of("nothing_sync")),
        _panel(result, "work", "Six gets, one after another", of("six")),
        _panel(result, "work", "Three gets, two at once, a step and a write", of("mix")),
    ]


def _ingest(result: dict[str, Any]) -> list[chart.Panel]:
    def of(*groups: str) -> list[Row]:
        return [row for row in rows() if row.group in groups]

    return [
        _panel(result, "work", "An event checked, throttled, charged, put on a stream: views", _views_of(of("ingest"))),
        _panel(result, "work", "The same as hot routes, and of an envelope", _hot(of("ingest", "envelope"))),
        _panel(result, "work", "An event checked, without Valkey, and servers that check nothing", of("check")),
    ]


def _views_of(found: list[Row]) -> list[Row]:
    return [row for row in found if row.handler in ("django", "ours")]


def _hot(found: list[Row]) -> list[Row]:
    return [row for row in found if row.handler in ("early", "below")]


def _panel(result: dict[str, Any], part: str, title: str, kept: list[Row], figure: str = "cpu") -> chart.Panel:
    bars = []
    for row in kept:
        cells = good(result, part, row.name)
        if cells:
            value = middle(cells, figure) * (1e6 if figure == "cpu" else 1)
            bars.append(chart.Bar(_label(row), value, row.handler in ("ours", "early", "below")))
    return chart.Panel(title, tuple(bars))


def _label(row: Row) -> str:
    if row.handler in ("early", "below"):
        place = "below ASGI" if row.handler == "below" else f"ASGI, {row.server}"
        work = "envelope, " if row.group == "envelope" else ""
        return f"{work}{place}, {row.means.removeprefix('target in ')}"
    if row.handler == "bare":
        return f"bare ASGI, {row.server}"
    if row.handler == "nginx":
        return "nginx, 204"
    if row.handler == "bolt":
        return "django-bolt"
    where = {"django": "Django's handler", "ours": "our handler", "wsgi": "WSGI"}[row.handler]
    what = "" if row.backend is NONE else row.title.removeprefix("cache calls, ").replace(" (this project)", "") + ", "
    return f"{what}{where}"
