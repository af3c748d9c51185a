"""Cutting a chain of pieces into stages of nearly equal cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hocket.core.errors import UsageError

_Add = Callable[[float, float], float]


def balance(costs: Sequence[float], num_stages: int) -> list[range]:
    """Cut pieces of these costs (any unit) into contiguous stages, each of one piece at least.

    The dearest stage is as cheap as it can be, and among such cuts the sum of squares is least, so that
    the other stages are even too. Exact, by dynamic programming in O(pieces**2 * stages).

    Raises :class:`UsageError` when there are more stages than pieces.
    """
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
    return [range(first, last) for first, last in zip(firsts, [*firsts[1:], len(costs)], strict=True)]


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
