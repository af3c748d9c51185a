"""Probe steps: steps whose micro-batches are random samples of the corpus, to measure gradient noise with.

Micro-batches of like length are no random samples: their gradients differ by more than chance. So every
few steps one is cut otherwise: its utterances are drawn from the pool by a key, before the pool is cut,
and split at random. It is a step like any other: each utterance is learnt from once an epoch.
"""

from __future__ import annotations

import numpy as np

from hocket.batching.cut import I64
from hocket.batching.partition import Pool
from hocket.core.cost import CostModel
from hocket.core.seeds import key, mix

LEAST_UNITS = 8
"""Micro-batches of a probe step, at least: what is measured is how they differ."""

_UTTERANCES = 4
"""Of a micro-batch, at least, where there are enough: weights by length are right for sums of some."""


def draw(pool: Pool, num_probes: int, num_steps: int, salt: int) -> tuple[list[I64], I64]:
    """Positions of each probe step, and those left for the other steps of the pool."""
    order = np.argsort(mix(key("probe", salt), pool.keys))
    count = round(len(pool) * num_probes / num_steps)
    return np.array_split(order[:count], num_probes), np.sort(order[count:])


def split(pool: Pool, positions: I64, per_step: int, largest: float, cost: CostModel) -> list[I64]:
    """A probe step in micro-batches: a multiple of ``per_step``, none of more than ``largest`` padded frames.

    Of numbers that double from the least, the one with the smallest cost: many random utterances together
    are mostly padding. One utterance may be larger than ``largest``.
    """
    number = -(-LEAST_UNITS // per_step) * per_step
    best, least = [], float("inf")
    while True:
        parts = np.array_split(positions, number)
        padded = [len(part) * int(pool.num_frames[part].max(initial=0)) for part in parts if len(part) > 1]
        fits = max(padded, default=0) <= largest
        if fits and (whole := float(pool.costs(parts, cost).sum())) < least:
            best, least = parts, whole
        if fits and 2 * number * _UTTERANCES > len(positions):
            return best
        number *= 2
