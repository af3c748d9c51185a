"""Cutting a chain of pieces into stages of nearly equal cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from hocket.core.errors import UsageError

_Add = Callable[[float, float], float]


def balance(costs: Sequence[float], num_ranks: int, chunks: int = 1) -> list[range]:
    """Cut pieces of these costs (any unit) into contiguous stages, ``chunks`` for each rank.

    Every stage has one piece at least; stage ``s`` is run by rank ``s % num_ranks``. The dearest stage is as
    cheap as it can be, and among such cuts the sum of squares is least, so that the other stages are even
    too: exact, by dynamic programming in O(pieces**2 * stages). With several chunks a rank's stages together
    decide how long it works: from there borders are moved piece by piece while that evens the ranks.

    Raises :class:`UsageError` when there are more stages than pieces.
    """
    num_stages = num_ranks * chunks
    if not 1 <= num_stages <= len(costs):
        raise UsageError(
            f"layout: {num_stages} pipeline stages out of a model of {len(costs)} pieces",
            "The subsampling, each block and the head are a piece each, and a stage has at least one: "
            f"let pp times the chunks on each rank be at most {len(costs)}.",
        )
    ends = [0.0]
    for cost in costs:
        ends.append(ends[-1] + cost)
    dearest, _ = _cut(ends, num_stages, _largest, limit=float("inf"))
    _, firsts = _cut(ends, num_stages, _squares, limit=dearest)
    if chunks > 1:
        firsts = _evened(ends, firsts, num_ranks)
    return [range(first, last) for first, last in pairwise((*firsts, len(costs)))]


def _largest(before: float, cost: float) -> float:
    return max(before, cost)


def _squares(before: float, cost: float) -> float:
    return before + cost * cost


def _cut(ends: list[float], num_stages: int, add: _Add, limit: float) -> tuple[float, list[int]]:
    """The least value of ``add`` over all cuts whose stages cost ``limit`` at most, and where they begin."""
    num_pieces = len(ends) - 1
    best: list[tuple[float, list[int]] | None] = [None] * (num_pieces + 1)
    best[0] = (0.0, [])
    for _ in range(num_stages):
        following: list[tuple[float, list[int]] | None] = [None] * (num_pieces + 1)
        for last in range(1, num_pieces + 1):
            for first in range(last):
                so_far, cost = best[first], ends[last] - ends[first]
                if so_far is None or cost > limit:
                    continue
                value, known = add(so_far[0], cost), following[last]
                if known is None or value < known[0]:
                    following[last] = (value, [*so_far[1], first])
        best = following
    found = best[num_pieces]
    assert found is not None
    return found


def _evened(ends: list[float], firsts: list[int], num_ranks: int) -> list[int]:
    """Where stages begin when no border moved by one piece evens what ranks do, or else what stages do."""

    def unevenness(firsts: list[int]) -> tuple[float, float]:
        stages = [ends[last] - ends[first] for first, last in pairwise((*firsts, len(ends) - 1))]
        ranks = [sum(stages[rank::num_ranks]) for rank in range(num_ranks)]
        return sum(cost * cost for cost in ranks), sum(cost * cost for cost in stages)

    while True:
        moved = [
            [*firsts[:stage], firsts[stage] + by, *firsts[stage + 1 :]]
            for stage in range(1, len(firsts))
            for by in (-1, 1)
        ]
        whole = [each for each in moved if all(a < b for a, b in pairwise((*each, len(ends) - 1)))]
        best = min(whole, key=unevenness, default=firsts)
        if unevenness(best) >= unevenness(firsts):
            return firsts
        firsts = best
