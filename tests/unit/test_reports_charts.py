"""Ticks, numbers and charts."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hocket.reports.axes import duration, log_ticks, number, percent, tick_label, ticks
from hocket.reports.svg import Series, line_chart, stacked_bars

FINITE = st.floats(-1e9, 1e9).map(lambda value: round(value, 6))
POSITIVE = st.floats(1e-6, 1e9)


@given(FINITE, FINITE)
def test_ticks_cover_the_range_in_round_steps(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    marks = ticks(low, high)
    span = max(high - low, 1e-9 * abs(high))
    assert marks[0] <= low + 1e-6 * span
    assert marks[-1] >= high - 1e-6 * span
    assert 2 <= len(marks) <= 12


@given(POSITIVE, POSITIVE)
def test_log_ticks_cover_the_range(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    marks = log_ticks(low, high)
    assert marks == sorted(set(marks))
    assert marks[0] <= low * 1.001
    assert marks[-1] >= high * 0.999
    assert len(marks) <= 17


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1,234"), (12.34, "12.3"), (0.001234, "0.00123"), (5.0, "5"), (-0.5, "-0.5")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.25, "0.2 s"), (42, "42 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_percent() -> None:
    assert percent(0.0071) == "0.7 %"


def heights(chart: str) -> list[float]:
    points = re.search(r'<polyline class="line-a" points="([^"]*)"', chart)
    assert points is not None
    return [float(point.split(",")[1]) for point in points[1].split()]


def test_a_wide_range_is_drawn_on_a_log_axis() -> None:
    ys = [1000.0, 100.0, 10.0, 1.0]
    chart = line_chart([Series("loss", [0, 1, 2, 3], ys, "line-a")], title="t", x_label="x", y_label="y")
    at = heights(chart)
    steps = [after - before for before, after in pairwise(at)]
    assert steps == pytest.approx([steps[0]] * 3, abs=0.2)  # equal factors, equal distances; down is less
    assert steps[0] > 0


def test_points_that_are_not_finite_are_left_out() -> None:
    ys = [1.0, math.nan, 3.0, math.inf]
    chart = line_chart([Series("loss", [0, 1, 2, 3], ys, "line-a")], title="t", x_label="x", y_label="y")
    assert len(heights(chart)) == 2
    assert "nan" not in chart and "inf" not in chart
    with pytest.raises(ValueError, match="nothing to draw"):
        line_chart([Series("loss", [0], [math.nan], "line-a")], title="t", x_label="x", y_label="y")


def test_long_runs_are_thinned() -> None:
    xs = list(range(10_000))
    chart = line_chart([Series("loss", xs, [1.0] * 10_000, "line-a")], title="t", x_label="x", y_label="y")
    assert 100 <= len(heights(chart)) <= 300


def test_bars_share_a_scale() -> None:
    chart = stacked_bars({"rank 0": {"work": 2.0, "idle": 2.0}, "rank 1": {"work": 4.0}}, title="t", unit="s")
    widths = [float(width) for width in re.findall(r'<rect class="kind-\w+" [^>]*width="([\d.]+)"', chart)]
    first, second = sum(widths[:2]), sum(widths[2:])
    assert first == pytest.approx(second)
    assert widths[0] == pytest.approx(widths[1])


def test_tick_labels_tell_neighbours_apart() -> None:
    marks = ticks(1.0, 1.004)
    labels = [tick_label(mark, marks) for mark in marks]
    assert len(set(labels)) == len(marks)
    assert labels[0] == "1.000"
    assert [tick_label(mark, [0.0, 2000.0]) for mark in (0.0, 2000.0)] == ["0", "2,000"]
