"""From the samples of all ranks to figures: which ranks count, and what is added up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hocket.hardware.profile import Figure

Samples = Mapping[str, Sequence[float]]
NOISY = 0.05
"""Spread of the reference product above which a machine is called noisy."""


@dataclass(frozen=True)
class Measured:
    """What one rank says."""

    samples: Samples
    reference: Sequence[float]
    rounds: int
    device: str
    """Name of its accelerator, or ``cpu``."""


def figure(ranks: Sequence[Measured], key: str) -> Figure | None:
    """The figure of a key, or None where nobody measured it.

    What all ranks do at once is added up over them if it is bytes a second of something they share
    (``memory/all``, ``read``), and else averaged (``product/.../together``). Messages take as long as
    for the slowest rank.
    """
    by_rank = [rank.samples[key] for rank in ranks if key in rank.samples]
    if not by_rank:
        return None
    rounds = list(zip(*by_rank, strict=True))
    kind = key.partition("/")[0]
    if kind == "message":
        return Figure.of([max(sample) for sample in rounds])
    if kind == "product":
        return Figure.of([statistics.fmean(sample) for sample in rounds])
    return Figure.of([math.fsum(sample) for sample in rounds])


def steadiness(seconds: Sequence[float]) -> tuple[Figure, bool]:
    """Seconds of the reference product, the middle eight tenths as range; and whether that is noisy."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    low, high = ordered[round(0.1 * last)], ordered[round(0.9 * last)]
    found = Figure(statistics.median(ordered), low, high, len(ordered))
    return found, found.spread > NOISY
