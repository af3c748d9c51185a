"""Cutting long audio where nobody speaks.

A recording is cut at the quietest places that leave no piece longer than the model's range: of all
ways to cut it, the one with the least sound at its cuts, counting the mean power of 0.4 s around each
against the recording's own quiet; among equally quiet ways the one with the fewest pieces. Found by
dynamic programming over places 50 ms apart, so a function of the recording and the range alone.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Powers = npt.NDArray[np.float32]

_STEP = 0.05
"""Seconds between places where a cut may be."""
_AROUND = 8
"""Places that the sound of a cut is taken over: 0.4 s."""
_DEEPEST_DB = 60.0
"""What is further below loud speech counts as this far below it: digital silence is not quieter."""
_PIECE = 0.05
"""Cost of a cut in full silence: fewer pieces are better, but not at the price of a word."""
_SHORTEST = 0.1
"""Shortest piece, as a share of the longest; what is left at the end may be shorter."""


def step_of(sample_rate: int) -> int:
    """Samples between places where a cut may be."""
    return max(1, round(_STEP * sample_rate))


def powers(blocks: Iterable[npt.NDArray[np.float32]], step: int) -> Powers:
    """Mean power of every ``step`` samples of a recording that comes in blocks; the rest at its end, too."""
    found: list[Powers] = []
    left = np.zeros(0, np.float32)
    for block in blocks:
        joined = np.concatenate([left, block]) if len(left) else block
        whole = len(joined) // step * step
        rows = joined[:whole].reshape(-1, step)
        found.append(np.einsum("ij,ij->i", rows, rows) / np.float32(step))
        left = joined[whole:]
    if len(left):
        found.append(np.array([np.square(left).mean()], np.float32))
    return np.concatenate(found) if found else np.zeros(0, np.float32)


def cuts(power: Powers, longest: int) -> list[int]:
    """Places to cut at, ascending, so that no piece has more than ``longest`` steps.

    A place is a number of steps from the start; neither 0 nor the end is among them.
    """
    num = len(power)
    if num <= longest:
        return []
    cost = _PIECE + _loudness(power)
    shortest = max(1, int(_SHORTEST * longest))
    best = np.full(num + 1, np.inf)
    before = np.zeros(num + 1, np.int64)
    best[0] = 0.0
    for place in range(shortest, num):
        low, high = max(0, place - longest), place - shortest + 1
        at = low + int(best[low:high].argmin())
        best[place], before[place] = best[at] + cost[place], at
    place = num - longest + int(best[num - longest : num].argmin())
    found = []
    while place > 0:
        found.append(place)
        place = int(before[place])
    return found[::-1]


def _loudness(power: Powers) -> npt.NDArray[np.float64]:
    """Sound around each place between two steps, from 0 (as quiet as it gets here) to 1 (loud)."""
    running = np.concatenate(([0.0], np.cumsum(power, dtype=np.float64)))
    places = np.arange(len(power) + 1)
    low, high = np.maximum(places - _AROUND // 2, 0), np.minimum(places + _AROUND // 2, len(power))
    decibels = 10.0 * np.log10((running[high] - running[low]) / (high - low) + 1e-10)
    quiet, loud = np.percentile(decibels, (5.0, 95.0)).tolist()
    quiet = max(quiet, loud - _DEEPEST_DB)
    return np.asarray(np.clip((decibels - quiet) / max(loud - quiet, 1.0), 0.0, 1.0))
