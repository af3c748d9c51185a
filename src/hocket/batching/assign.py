"""Dealing a step's micro-batches to ranks."""

from __future__ import annotations

from collections.abc import Sequence


def assign(costs: Sequence[float], num_ranks: int, speeds: Sequence[float] | None = None) -> list[list[int]]:
    """Positions of micro-batches for each rank: the largest first, onto the rank that is done first.

    ``speeds`` are relative speeds of the ranks (all 1 by default). A rank may get none. The result
    is the same on every rank and decides who computes what, never what is computed. Longest
    processing time first is at most 4/3 of the best schedule (Graham, SIAM J. Appl. Math. 1969).
    """
    rates = [1.0] * num_ranks if speeds is None else list(speeds)
    if len(rates) != num_ranks or min(rates) <= 0:
        raise ValueError(f"speeds must be {num_ranks} positive numbers")
    share: list[list[int]] = [[] for _ in range(num_ranks)]
    load = [0.0] * num_ranks
    for position in sorted(range(len(costs)), key=lambda p: (-costs[p], p)):
        rank = min(range(num_ranks), key=lambda r: ((load[r] + costs[position]) / rates[r], r))
        share[rank].append(position)
        load[rank] += costs[position]
    return [sorted(positions) for positions in share]


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
