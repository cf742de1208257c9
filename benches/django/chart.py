"""A bar chart as an SVG file, written by hand: panels below one another, each on its own scale.

A bar that would dwarf the others of its panel is cut, with a mark, and still says its figure. The
card behind is white, so that the chart reads the same on a light and on a dark page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from statistics import median

WIDTH = 820
MARGIN = 24
LABELS = 236
FIGURES = 64
BAR = 16
STEP = 22
PANEL_GAP = 40
TITLE = 76
CUT_AT = 2.5
"""A bar longer than so many times the median of its panel is cut."""

INK, FAINT, OURS, PEER = "#1f2933", "#6b7785", "#0b7a75", "#a9b8c6"


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    ours: bool


@dataclass(frozen=True)
class Panel:
    title: str
    bars: tuple[Bar, ...]
    cut: bool = True
    most: float | None = None
    """The value at the full width, for panels that share a scale."""

    @property
    def scale(self) -> float:
        """The value at the full width of the panel."""
        if self.most is not None:
            return self.most
        values = [bar.value for bar in self.bars]
        if not self.cut:
            return max(values)
        return min(max(values), CUT_AT * median(values))


CPU_NOTE = "All threads of the client's process; shorter is better. Each panel has its own scale"


def draw(title: str, panels: tuple[Panel, ...], note: str = CPU_NOTE) -> str:
    height = TITLE + sum(PANEL_GAP + STEP * len(panel.bars) for panel in panels) + MARGIN // 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        f' width="{WIDTH}" height="{height}" role="img" aria-label="{escape(title)}"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="#ffffff" stroke="#d5dbe1"/>',
        _text(MARGIN, 36, title, size=18, weight=600),
        _text(
            MARGIN,
            58,
            note + ("; a bar with // is cut." if any(panel.cut for panel in panels) else "."),
            color=FAINT,
        ),
    ]
    top = TITLE
    for panel in panels:
        lines += _panel(panel, top)
        top += PANEL_GAP + STEP * len(panel.bars)
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, top: int) -> Iterator[str]:
    yield _text(MARGIN, top + 22, panel.title, size=14, weight=600)
    yield f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{top}" y2="{top}" stroke="#e6eaee"/>'
    full = WIDTH - 2 * MARGIN - LABELS - FIGURES
    for number, bar in enumerate(panel.bars):
        y = top + 32 + number * STEP
        length = max(1.0, full * min(1.0, bar.value / panel.scale))
        left = MARGIN + LABELS
        weight = 600 if bar.ours else 400
        yield _text(left - 10, y + 12, bar.label, weight=weight, anchor="end")
        yield (
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{OURS if bar.ours else PEER}"/>'
        )
        if bar.value > panel.scale:
            yield _cut(left + length - 26, y)
        yield _text(left + length + 8, y + 12, _figure(bar.value), weight=weight)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _cut(x: float, y: int) -> str:
    """Two slanted gaps across the bar."""
    return "".join(
        f'<path d="M{x + shift:.1f} {y + BAR + 1} l6 -{BAR + 2}" stroke="#ffffff" stroke-width="3"/>'
        for shift in (0, 7)
    )


def _text(
    x: float,
    y: float,
    content: str,
    *,
    size: int = 12,
    weight: int = 400,
    color: str = INK,
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{color}"'
        f' text-anchor="{anchor}">{escape(content)}</text>'
    )
