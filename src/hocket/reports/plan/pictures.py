"""The pictures of a plan: bars, curves and a roof over logarithmic axes, and a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from hocket.reports.axes import number
from hocket.reports.scale.charts import figure
from hocket.reports.svg import WIDTH, stacked_bars

_LEFT, _RIGHT, _TOP, _HEIGHT = 52.0, 16.0, 10.0, 190.0
Points = Sequence[tuple[float, float]]


def times(candidates: Sequence[Mapping[str, Any]], unit: str) -> str:
    """A bar for each candidate: seconds for as much speech, by what they go to."""
    rows = {
        f"{_name(each, unit)}\n": {
            kind: 1000 * seconds / (each["audio_per_second"] * each["step_seconds"])
            for kind, seconds in each["seconds"].items()
        }
        for each in candidates
    }
    return stacked_bars(rows, title="Time for a second of speech", unit="ms")


def memory(candidates: Sequence[Mapping[str, Any]], unit: str, there: float) -> str:
    """A bar for each candidate: gigabytes by what they hold, and what a device has."""
    most = max(each["memory_bytes"]["total"] for each in candidates)
    scale, named = (1e9, "GB") if most >= 1e9 else (1e6, "MB")
    rows = {
        f"{_name(each, unit)}\n": {
            kind: num_bytes / scale for kind, num_bytes in each["memory_bytes"].items() if kind != "total"
        }
        for each in candidates
    }
    return stacked_bars(rows, title=f"A {unit} has {number(there / 1e9)} GB; filled are", unit=named)


def scaling(points: Sequence[Mapping[str, float]], chosen: Mapping[str, Any], unit: str) -> list[str]:
    """Speech a second over devices, beside what it would be if nothing were lost."""
    if len(points) < 2:
        return []
    first = points[0]
    ideal = [(point["workers"], first["weak"] * point["workers"] / first["workers"]) for point in points]
    lines = {
        "ideal": ideal,
        "s0": [(point["workers"], point["weak"]) for point in points],
        "s1": [(point["workers"], point["strong"]) for point in points],
    }
    legend = {"ideal": "nothing lost", "s0": "weak", "s1": "strong"}
    marked = [(float(chosen["workers"]), float(chosen["audio_per_second"]), 5.0, "the plan")]
    return [_log_log(lines, legend, marked, "Speech learnt from", "seconds in a second", f"{unit}s")]


def roofline(found: Mapping[str, Any] | None) -> list[str]:
    """Operations a second over operations a byte, below the roofs of the chosen precision."""
    if not found or not found["spots"]:
        return []
    peak, bandwidth = found["flops"], found["bandwidth"]
    spots = found["spots"]
    low = min(min(spot["intensity"] for spot in spots), peak / bandwidth) / 3
    high = max(max(spot["intensity"] for spot in spots), peak / bandwidth) * 3
    roof = [(low, low * bandwidth), (peak / bandwidth, peak), (high, peak)]
    marked = [
        (spot["intensity"], spot["flops_per_second"], 3 + 9 * math.sqrt(spot["share"]), spot["name"])
        for spot in spots
    ]
    return [
        _log_log(
            {"ideal": roof},
            {"ideal": f"roof of {found['name']}"},
            marked,
            "Roofline",
            "operations a second",
            "operations for each byte",
        )
    ]


def topology(found: Mapping[str, Any] | None) -> list[str]:
    """Nodes in tiers, and links as thick as they are busy."""
    if not found:
        return []
    tiers: dict[int, list[int]] = {}
    for place, node in enumerate(found["nodes"]):
        tiers.setdefault(node["tier"], []).append(place)
    where: dict[int, tuple[float, float]] = {}
    gap = 52.0
    highest = max(tiers)
    for tier, members in tiers.items():
        for place, member in enumerate(members):
            x = 14 + (WIDTH - 28) * (place + 0.5) / len(members)
            where[member] = x, 22 + (highest - tier) * gap
    drawn = []
    most = max((link["seconds"] for link in found["links"]), default=0.0) or 1.0
    for link in found["links"]:
        (from_x, from_y), (to_x, to_y) = where[link["source"]], where[link["target"]]
        share = link["seconds"] / most
        style = "busiest" if share > 0.999 and link["seconds"] > 0 else "link"
        hover = f"{link['name']}: {number(1000 * link['seconds'])} ms busy in a step"
        drawn.append(
            f'<line class="{style}" x1="{from_x:.1f}" y1="{from_y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" '
            f'stroke-width="{0.6 + 5 * share:.2f}"><title>{escape(hover)}</title></line>'
        )
    for place, node in enumerate(found["nodes"]):
        x, y = where[place]
        drawn.append(
            f'<circle class="node-{node["kind"]}" cx="{x:.1f}" cy="{y:.1f}" r="{4 if node["tier"] else 2.5}">'
            f"<title>{escape(node['name'])}</title></circle>"
        )
    height = 22 + highest * gap + 20
    said = f"busiest: {found['busiest']}" if found["busiest"] else "nothing is sent"
    drawn.append(f'<text x="14" y="{height - 2:.0f}">{escape(said)}</text>')
    return [figure(found["name"], "", drawn, height + 6)]


def _name(each: Mapping[str, Any], unit: str) -> str:
    parts = [f"{each['workers']:,} {unit}" + ("" if each["workers"] == 1 else "s"), each["layout"]]
    if not each["same_answer"]:
        parts += [each["sync"], each["precision"]]
    return ": ".join(parts[:2]) + "".join(f", {part}" for part in parts[2:])


def _log_log(
    lines: Mapping[str, Points],
    legend: Mapping[str, str],
    marked: Sequence[tuple[float, float, float, str]],
    title: str,
    unit: str,
    x_label: str,
) -> str:
    """Lines by style, and dots (x, y, radius, name), over two logarithmic axes."""
    every = [point for line in lines.values() for point in line] + [(x, y) for x, y, _, _ in marked]
    xs, ys = _decades([x for x, _ in every]), _decades([y for _, y in every])

    def place(x: float, y: float) -> tuple[float, float]:
        along = (math.log10(x) - xs[0]) / (xs[-1] - xs[0])
        up = (math.log10(y) - ys[0]) / (ys[-1] - ys[0])
        return _LEFT + along * (WIDTH - _LEFT - _RIGHT), _TOP + (1 - up) * _HEIGHT

    bottom = _TOP + _HEIGHT
    drawn = []
    for power in ys:
        y = place(10.0 ** xs[0], 10.0**power)[1]
        drawn.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        drawn.append(f'<text x="{_LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{_power(power)}</text>')
    for power in xs:
        x = place(10.0**power, 10.0 ** ys[0])[0]
        drawn.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{_power(power)}</text>')
    for style, line in lines.items():
        points = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        drawn.append(f'<polyline class="{style}" points="{points}"/>')
    for number_of, (x, y, radius, name) in enumerate(marked):
        at_x, at_y = place(x, y)
        hover = f"{name}: {number(y)} {unit} at {number(x)} {x_label}"
        drawn.append(
            f'<circle class="s{number_of + 2}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="{radius:.1f}">'
            f"<title>{escape(hover)}</title></circle>"
        )
    y = bottom + 34
    drawn.append(
        f'<text class="unit" x="{WIDTH - _RIGHT}" y="{y}" text-anchor="end">{escape(x_label)}</text>'
    )
    named = [(style, legend[style]) for style in lines]
    named += [(f"s{number_of + 2}", name) for number_of, (_, _, _, name) in enumerate(marked)]
    for style, name in named:
        y += 17
        drawn.append(f'<rect class="{style}" x="{_LEFT}" y="{y - 9}" width="14" height="8"/>')
        drawn.append(f'<text x="{_LEFT + 20}" y="{y}">{escape(name)}</text>')
    return figure(title, unit, drawn, y + 8)


def _decades(values: Sequence[float]) -> list[int]:
    """Powers of ten that cover the values: at least two, and no more than eight."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    step = -(-(high - low) // 7)
    powers = list(range(low, high + step, step))
    return powers if powers[-1] >= high else [*powers, powers[-1] + step]


def _power(power: int) -> str:
    names = {-3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P"}
    base = 3 * math.floor(power / 3)
    return f"{10 ** (power - base)}{names.get(base, f'e{base}')}"
