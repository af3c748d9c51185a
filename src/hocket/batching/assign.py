"""Dealing a step's micro-batches to ranks."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_EVEN = 1e-3
"""Ranks so near to one another are left as they are."""


def assign(costs: Sequence[float], num_ranks: int, speeds: Sequence[float] | None = None) -> list[list[int]]:
    """Positions of micro-batches for each rank: the largest first, onto the rank that is done first.

    ``speeds`` are relative speeds of the ranks (all 1 by default). A rank may get none. The result
    is the same on every rank and decides who computes what, never what is computed. Longest
    processing time first is at most 4/3 of the best schedule (Graham, SIAM J. Appl. Math. 1969); then
    the slowest rank trades micro-batches with others for as long as that makes it faster.
    """
    rates = [1.0] * num_ranks if speeds is None else list(speeds)
    if len(rates) != num_ranks or min(rates) <= 0:
        raise ValueError(f"speeds must be {num_ranks} positive numbers")
    owner = np.empty(len(costs), np.int64)
    largest_first = sorted(range(len(costs)), key=lambda p: (-costs[p], p))
    if len(set(rates)) == 1:  # who has least is done first: no need to ask every rank
        least = [(0.0, rank) for rank in range(num_ranks)]
        for position in largest_first:
            load, rank = least[0]
            owner[position] = rank
            heapq.heapreplace(least, (load + costs[position], rank))
    else:
        loads = [0.0] * num_ranks
        for position in largest_first:
            rank = min(range(num_ranks), key=lambda r: ((loads[r] + costs[position]) / rates[r], r))
            owner[position] = rank
            loads[rank] += costs[position]
    if len(costs) > num_ranks:
        _trade(np.asarray(costs, np.float64), owner, np.asarray(rates, np.float64))
    share: list[list[int]] = [[] for _ in range(num_ranks)]
    for position, rank in enumerate(owner.tolist()):
        share[rank].append(position)
    return share


def imbalance(
    costs: Sequence[float], shares: Sequence[Sequence[int]], speeds: Sequence[float] | None = None
) -> float:
    """Slowest rank over the mean of all ranks, in predicted time: 1.0 is perfect."""
    rates = [1.0] * len(shares) if speeds is None else speeds
    loads = [
        sum(costs[position] for position in share) / rate for share, rate in zip(shares, rates, strict=True)
    ]
    mean = sum(loads) / len(loads)
    return max(loads) / mean if mean > 0 else 1.0


def _trade(costs: F64, owner: I64, rates: F64) -> None:
    """Give the slowest rank one micro-batch less, or a cheaper one for a dearer, while that helps.

    Of all such trades the one after which the slower of the two is fastest; ``owner`` is changed.
    """
    loads = np.bincount(owner, weights=costs, minlength=len(rates))
    # In return for its own the slowest rank takes any other micro-batch, or nothing from any rank.
    returned = np.concatenate((costs, np.zeros(len(rates))))
    from_rank = np.concatenate((owner, np.arange(len(rates))))
    for _ in range(len(costs)):
        times = loads / rates
        slowest = int(times.argmax())
        if times[slowest] <= (1 + _EVEN) * loads.sum() / rates.sum():
            return
        given = np.flatnonzero(owner == slowest)
        gain = costs[given, None] - returned
        after = np.maximum(
            (loads[slowest] - gain) / rates[slowest], (loads[from_rank] + gain) / rates[from_rank]
        )
        after[:, from_rank == slowest] = np.inf
        best = int(after.argmin())
        ours, theirs = int(given[best // len(returned)]), best % len(returned)
        if after.flat[best] >= times[slowest] * (1 - 1e-9):
            return
        other = int(from_rank[theirs])
        moved = costs[ours] - returned[theirs]
        loads[slowest] -= moved
        loads[other] += moved
        owner[ours] = from_rank[ours] = other
        if theirs < len(costs):
            owner[theirs] = from_rank[theirs] = slowest
