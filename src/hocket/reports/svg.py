"""Line charts and stacked bars as inline SVG.

A drawing is 360 units wide, the width of a phone: a page lays several side by side on a wider
screen, so that text keeps its size. Colours are classes; the page's style sheet gives them, one set
for light and one for dark.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from hocket.reports.axes import log_ticks, number, tick_label, ticks

WIDTH = 360.0
_LEFT, _RIGHT, _TOP = 46.0, 20.0, 10.0
_PLOT_HEIGHT = 150.0
_MAX_POINTS = 300


@dataclass(frozen=True)
class Series:
    """A line: ``style`` is a class of the page (``line-a``, ``line-b``, ``line-faint``)."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    style: str
    markers: bool = False


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    from_zero: bool = False,
    x_ticks: Sequence[float] | None = None,
    x_names: Callable[[float], str] | None = None,
) -> str:
    """Lines over one pair of axes, x from 0; points that are not finite are left out.

    The y axis is logarithmic where the values span more than a factor of 20 (a CTC loss falls from
    hundreds to tenths) and none is zero. ``x_names`` says what stands at a tick. Raises ValueError when
    there is no point to draw.
    """
    finite = [line for line in map(_finite, series) if line.xs]
    if not finite:
        raise ValueError(f"{title}: nothing to draw")
    x_high = max(x for line in finite for x in line.xs) or 1.0
    kept = [_thin(line) for line in finite]
    ys = [y for line in kept for y in line.ys]
    log = not from_zero and min(ys) > 0 and max(ys) / min(ys) > 20
    y_ticks = log_ticks(min(ys), max(ys)) if log else ticks(0.0 if from_zero else min(ys), max(ys))
    x_ticks = [tick for tick in (x_ticks or ticks(0.0, x_high)) if tick <= x_high]

    def place_x(x: float) -> float:
        return _LEFT + x / x_high * (WIDTH - _LEFT - _RIGHT)

    def place_y(y: float) -> float:
        low, high = y_ticks[0], y_ticks[-1]
        share = math.log(y / low) / math.log(high / low) if log else (y - low) / (high - low)
        return _TOP + (1 - share) * _PLOT_HEIGHT

    bottom = _TOP + _PLOT_HEIGHT
    parts = []
    for tick in y_ticks:
        y, label = place_y(tick), number(tick) if log else tick_label(tick, y_ticks)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for tick in x_ticks:
        x = place_x(tick)
        label = tick_label(tick, x_ticks) if x_names is None else escape(x_names(tick))
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{label}</text>')
    for line in kept:
        points = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in zip(line.xs, line.ys, strict=True))
        parts.append(f'<polyline class="{line.style}" points="{points}"/>')
        if line.markers:
            parts.extend(
                f'<circle class="{line.style}" cx="{place_x(x):.1f}" cy="{place_y(y):.1f}" r="2.5">'
                f"<title>{escape(line.name)}: {number(y)} at {number(x)}</title></circle>"
                for x, y in zip(line.xs, line.ys, strict=True)
            )
    where = f'x="{WIDTH - _RIGHT}" y="{bottom + 31}" text-anchor="end"'
    parts.append(f'<text class="unit" {where}>{escape(x_label)}</text>')
    legend = _legend([(line.name, line.style) for line in kept]) if len(kept) > 1 else ""
    return _figure(title, y_label, legend, parts, bottom + 38)


def stacked_bars(
    rows: Mapping[str, Mapping[str, float]], *, title: str, unit: str, note: str | None = None
) -> str:
    """One bar a row, cut by kind, all on the same scale; at its end its total, or the kind ``note``.

    A label of two lines is a heading, drawn once for the rows in a row that share it, and the row's own.
    Styles are ``kind-NAME`` for each kind. Raises ValueError when there is no row.
    """
    if not rows:
        raise ValueError(f"{title}: nothing to draw")
    kinds = list(dict.fromkeys(kind for parts in rows.values() for kind in parts))
    longest = max(sum(parts.values()) for parts in rows.values()) or 1.0
    named = any(whole_label.rpartition("\n")[2] for whole_label in rows)
    left, right, height, gap = 58.0 if named else 4.0, 66.0, 20.0, 8.0
    drawn = []
    y, above = _TOP, ""
    for whole_label, parts in rows.items():
        heading, _, label = whole_label.rpartition("\n")
        if heading != above:
            drawn.append(f'<text class="heading" x="4" y="{y + 13}">{escape(heading)}</text>')
            y, above = y + 19, heading
        drawn.append(f'<text x="{left - 6}" y="{y + 14.5}" text-anchor="end">{escape(label)}</text>')
        x = left
        for kind in kinds:
            value = parts.get(kind, 0.0)
            width = value / longest * (WIDTH - left - right)
            hover = f"{escape(label)}, {escape(kind)}: {number(value)} {escape(unit)}"
            box = f'x="{x:.1f}" y="{y}" width="{width:.2f}" height="{height}"'
            drawn.append(f'<rect class="kind-{escape(kind)}" {box}><title>{hover}</title></rect>')
            x += width
        said = sum(parts.values()) if note is None else parts.get(note, 0.0)
        drawn.append(f'<text x="{x + 5:.1f}" y="{y + 14.5}">{number(said)} {escape(unit)}</text>')
        y += height + gap
    return _figure(title, unit, _legend([(kind, f"kind-{kind}") for kind in kinds]), drawn, y + 2)


def _figure(title: str, unit: str, legend: str, parts: Sequence[str], height: float) -> str:
    body = "\n".join(parts)
    return (
        f'<figure><figcaption><b>{escape(title)}</b> <span class="unit">{escape(unit)}</span>{legend}'
        f'</figcaption>\n<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">\n'
        f"{body}\n</svg></figure>"
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    once = dict.fromkeys(entries)  # lines that belong together are named once
    items = "".join(f'<span><i class="{style}"></i>{escape(name)}</span>' for name, style in once)
    return f'<div class="legend">{items}</div>'


def _finite(line: Series) -> Series:
    pairs = [(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(x) and math.isfinite(y)]
    return Series(line.name, [x for x, _ in pairs], [y for _, y in pairs], line.style, line.markers)


def _thin(line: Series) -> Series:
    """At most ``_MAX_POINTS`` points: means of neighbours."""
    group = math.ceil(len(line.xs) / _MAX_POINTS)
    if group <= 1:
        return line

    def means(values: Sequence[float]) -> list[float]:
        cuts = [values[start : start + group] for start in range(0, len(values), group)]
        return [sum(cut) / len(cut) for cut in cuts]

    return Series(line.name, means(line.xs), means(line.ys), line.style, line.markers)
