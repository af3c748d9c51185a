"""Settings chosen on a grid that widens while the best lie at its edge.

A development set is small and its errors are counted in whole words: the least of many counts is often luck.
So a point is judged together with its neighbours, and the middle of a plain is chosen rather than its rim.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Place = tuple[int, ...]


@dataclass(frozen=True)
class Axis:
    """Values of one setting: multiples of ``step``, from ``first`` to ``last`` to begin with."""

    name: str
    first: float
    last: float
    step: float
    lowest: float
    """The grid is never widened below that."""
    highest: float
    """The grid is never widened above that."""
    usual: float
    """What is kept to where it makes no difference."""

    def value(self, place: int) -> float:
        """The value that is so many steps above zero."""
        return round(place * self.step, 6)

    def places(self, low: float, high: float) -> tuple[int, int]:
        """Steps above zero of two values."""
        return round(low / self.step), round(high / self.step)


@dataclass(frozen=True)
class Choice:
    """The chosen values, in the order of the axes, and all that were tried."""

    best: tuple[float, ...]
    errors: Mapping[tuple[float, ...], int]
    at_limit: tuple[str, ...]
    """Axes on which the best value is the lowest or highest that is allowed."""
    widened: tuple[str, ...]
    """Axes that were widened beyond what was tried first."""


def choose(errors: Callable[[tuple[float, ...]], int], axes: Sequence[Axis]) -> Choice:
    """The point with the fewest errors in the sum over itself and its neighbours.

    Of equal ones that with fewer errors itself, and of those the one that is the fewest steps from the usual
    values. ``errors`` is asked once for each point.
    """
    limits = [axis.places(axis.lowest, axis.highest) for axis in axes]
    spans = [list(axis.places(axis.first, axis.last)) for axis in axes]
    found: dict[Place, int] = {}
    widened: set[str] = set()
    while True:
        for place in itertools.product(*(range(low, high + 1) for low, high in spans)):
            if place not in found:
                found[place] = errors(_values(axes, place))
        best = min(
            found,
            key=lambda place: (_around(found, spans, place), found[place], _from_usual(axes, place), place),
        )
        grown = False
        for axis, span, limit, at in zip(axes, spans, limits, best, strict=True):
            for side, step in ((0, -1), (1, 1)):
                if at == span[side] != limit[side]:
                    span[side] += step
                    widened.add(axis.name)
                    grown = True
        if not grown:
            break
    return Choice(
        best=_values(axes, best),
        errors={_values(axes, place): count for place, count in found.items()},
        at_limit=tuple(axis.name for axis, limit, at in zip(axes, limits, best, strict=True) if at in limit),
        widened=tuple(axis.name for axis in axes if axis.name in widened),
    )


def _values(axes: Sequence[Axis], place: Place) -> tuple[float, ...]:
    return tuple(axis.value(at) for axis, at in zip(axes, place, strict=True))


def _from_usual(axes: Sequence[Axis], place: Place) -> float:
    return sum(abs(at - axis.usual / axis.step) for axis, at in zip(axes, place, strict=True))


def _around(found: Mapping[Place, int], spans: Sequence[Sequence[int]], place: Place) -> int:
    """Sum over a point and its neighbours, diagonal ones too; beyond the edge it goes on as at the edge."""
    sides = [
        [min(max(near, low), high) for near in (at - 1, at, at + 1)]
        for at, (low, high) in zip(place, spans, strict=True)
    ]
    return sum(found[near] for near in itertools.product(*sides))
