"""Bars of one value and intervals, as inline SVG beside the lines and stacks of :mod:`hocket.reports.svg`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from hocket.reports.axes import ticks
from hocket.reports.svg import WIDTH

_TOP, _SIDE, _ROW, _TALL = 8.0, 8.0, 36.0, 52.0


@dataclass(frozen=True)
class Interval:
    """A value with its interval, in the chart's unit."""

    label: str
    value: float
    low: float
    high: float


def bars(values: Sequence[tuple[str, float]], *, title: str, unit: str, said: Callable[[float], str]) -> str:
    """One bar for each (label, value), its label above it and its value behind it, from 0."""
    longest = max((value for _, value in values), default=0.0) or 1.0
    room = WIDTH - 2 * _SIDE - 76
    drawn, y = [], _TOP
    for label, value in values:
        width = max(1.0, value / longest * room)
        drawn.append(f'<text class="heading" x="{_SIDE}" y="{y + 11}">{escape(label)}</text>')
        drawn.append(f'<rect class="bar" x="{_SIDE}" y="{y + 16}" width="{width:.1f}" height="12"/>')
        drawn.append(f'<text x="{_SIDE + width + 5:.1f}" y="{y + 26}">{escape(said(value))}</text>')
        y += _ROW
    return figure(title, unit, drawn, y)


def intervals(
    found: Sequence[Interval], *, title: str, unit: str, said: Callable[[float], str], bounds: Sequence[float]
) -> str:
    """A line of intervals over one axis; ``bounds`` are values marked beside 0, and always in sight."""
    edges = [0.0, *bounds, *(edge for each in found for edge in (each.low, each.high, each.value))]
    marks = ticks(min(edges), max(edges))
    low, high = marks[0], marks[-1]

    def place(value: float) -> float:
        return _SIDE + 14 + (value - low) / (high - low) * (WIDTH - 2 * _SIDE - 28)

    bottom = _TOP + _TALL * len(found)
    drawn = []
    for mark in marks:
        x = place(mark)
        drawn.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
        label = f"{mark:+.0f}" if mark else "0"
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{label}</text>')
    for bound in bounds:
        x = place(bound)
        drawn.append(f'<line class="ideal" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>')
    zero = place(0.0)
    drawn.append(f'<line class="zero" x1="{zero:.1f}" x2="{zero:.1f}" y1="{_TOP}" y2="{bottom}"/>')
    for number, each in enumerate(found):
        y = _TOP + _TALL * number
        from_x, to_x = place(each.low), place(each.high)
        drawn.append(f'<text class="heading" x="{_SIDE}" y="{y + 11}">{escape(each.label)}</text>')
        text = f"{said(each.value)} ({said(each.low)} to {said(each.high)})"
        drawn.append(f'<text class="heading" x="{_SIDE}" y="{y + 26}">{escape(text)}</text>')
        line = f'x1="{from_x:.1f}" x2="{to_x:.1f}" y1="{y + 37}" y2="{y + 37}"'
        drawn.append(f'<line class="interval" {line}/>')
        drawn.append(f'<circle class="point" cx="{place(each.value):.1f}" cy="{y + 37}" r="4"/>')
    return figure(title, unit, drawn, bottom + 20)


def figure(title: str, unit: str, parts: Sequence[str], height: float) -> str:
    """A titled drawing as wide as all others."""
    body = "\n".join(parts)
    return (
        f'<figure><figcaption><b>{escape(title)}</b> <span class="unit">{escape(unit)}</span></figcaption>\n'
        f'<svg viewBox="0 0 {WIDTH:g} {height:g}" role="img" aria-label="{escape(title)}">\n{body}\n'
        "</svg></figure>"
    )
