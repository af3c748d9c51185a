"""Round ticks and short numbers for charts and tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) that cover ``low`` to ``high``."""
    if high - low <= max(1e-12 * max(abs(low), abs(high)), 1e-300):
        high = low + (abs(low) if abs(low) > 1e-300 else 1.0)
    raw = (high - low) / max(about, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten that cover ``low`` to ``high``, both above 0; at most seven."""
    exponents = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    for factors in ((1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        below = max(value for value in values if value <= low * (1 + 1e-9))
        above = min(value for value in [*values, 10.0 ** (exponents[-1] + 1)] if value >= high * (1 - 1e-9))
        chosen = [value for value in values if below <= value <= above]
        if above not in chosen:
            chosen.append(above)
        if len(chosen) <= 7:
            break
    return chosen


def tick_label(tick: float, marks: Sequence[float]) -> str:
    """A tick with as many decimals as tell it from its neighbours."""
    if len(marks) < 2:
        return number(tick)
    step = min(after - before for before, after in pairwise(marks))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return f"{tick + 0.0:,.{digits}f}"


def number(value: float) -> str:
    """Three significant digits, no more zeros than needed: 0.00123, 12.3, 1,230."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if abs(value) >= 100:
        return f"{value:,.0f}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share as per cent: 0.0071 is 0.7 %."""
    return f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as people say them: 8.2 s, 3 min 05 s, 2 h 07 min."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def brief(seconds: float) -> str:
    """Seconds of something short: 0.42 ms, 8.39 ms, 1.25 s."""
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"
