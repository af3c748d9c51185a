"""The result page: tables in Markdown and a picture in SVG."""

from __future__ import annotations

import re
from collections.abc import Sequence

from hocket.reports.svg import Series, line_chart

_STYLE = """
svg { background: #fff } text { font: 10px sans-serif; fill: #222 } .unit { fill: #666 }
.grid { stroke: #ddd; stroke-width: 1 } polyline { fill: none; stroke-width: 2 }
polyline.line-a { stroke: #0b6e4f } circle.line-a { fill: #0b6e4f }
polyline.line-b { stroke: #c1440e } circle.line-b { fill: #c1440e }
polyline.line-faint { stroke: #888; stroke-width: 1.5 } circle.line-faint { fill: #888 }
polyline.line-c { stroke: #6db59b; stroke-dasharray: 4 3 } circle.line-c { fill: #6db59b }
text.line-a { fill: #0b6e4f } text.line-b { fill: #c1440e }
text.line-c { fill: #4b9178 } text.line-faint { fill: #666 }
"""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows)]


def picture(charts: Sequence[tuple[str, str, Sequence[Series]]], x_label: str) -> str:
    """Charts (title, unit, lines) below each other, as one SVG that stands alone."""
    parts, top = [], 0.0
    width = 360.0
    for title, unit, lines in charts:
        drawn = line_chart(lines, title=title, x_label=x_label, y_label=unit, from_zero=True)
        found = re.search(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"[^>]*>(.*?)</svg>', drawn, re.DOTALL)
        if found is None:
            raise ValueError(f"{title}: no drawing")
        width, height = float(found[1]), float(found[2])
        parts.append(f'<text x="8" y="{top + 14}" font-weight="bold">{title}, {unit}</text>')
        x = 8.0
        for line in lines:
            parts.append(f'<text class="{line.style}" x="{x:.0f}" y="{top + 28}">■ {line.name}</text>')
            x += 16 + 4.6 * len(line.name)
        parts.append(f'<g transform="translate(0 {top + 34})">{found[3]}</g>')
        top += height + 44
    size = f'viewBox="0 0 {width:g} {top:g}" width="{2 * width:g}" height="{2 * top:g}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{_STYLE}</style>\n{body}\n</svg>\n'
