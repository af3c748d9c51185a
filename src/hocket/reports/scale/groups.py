"""Cells that differ in their seed alone, as one: means over seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hocket.reports.scale.facts import Cell, Details, Study
from hocket.reports.svg import Series

KINDS = ("compute", "communication", "wait", "data", "optimiser")
_NUM_COLOURS = 10


@dataclass(frozen=True)
class Group:
    """Cells of one strategy, workers, link, partition and scaling, by seed."""

    label: str
    workers: int
    link: str
    partition: str
    scaling: str
    cells: tuple[tuple[Cell, Details], ...]

    @property
    def details(self) -> Details:
        """Of the first seed."""
        return self.cells[0][1]

    @property
    def is_plain(self) -> bool:
        """Whole gradients summed at every step."""
        return self.details.is_plain

    @property
    def seeds(self) -> str:
        """``seed 1`` or ``3 seeds``."""
        return f"seed {self.cells[0][0].seed}" if len(self.cells) == 1 else f"{len(self.cells)} seeds"

    def mean(self, of: Callable[[Cell], float | None]) -> float | None:
        """Over the seeds that have it."""
        found = [value for value in (of(cell) for cell, _ in self.cells) if value is not None]
        return sum(found) / len(found) if found else None

    def reached(self) -> float | None:
        """Seconds to the target loss, mean over seeds; None unless all reached it."""
        if any(cell.seconds_to_loss is None for cell, _ in self.cells):
            return None
        return self.mean(lambda cell: cell.seconds_to_loss)

    def seconds_by_rank(self) -> list[dict[str, float]]:
        """By kind, mean over seeds."""
        ranks: list[dict[str, float]] = []
        for rank in range(self.workers):
            told = [details.seconds_by_rank[rank] for _, details in self.cells]
            ranks.append({kind: sum(each.get(kind, 0.0) for each in told) / len(told) for kind in KINDS})
        return ranks


def groups_of(study: Study) -> list[Group]:
    """In the order in which they come first."""
    found: dict[tuple[str, int, str, str, str], list[tuple[Cell, Details]]] = {}
    for cell, details in study.cells:
        scaling = str(cell.settings["scaling"])
        key = (details.label, cell.workers, cell.link, cell.partition, scaling)
        found.setdefault(key, []).append((cell, details))
    return [Group(*key, tuple(cells)) for key, cells in found.items()]


class Colours:
    """One style for each strategy, the same in all pictures."""

    def __init__(self, groups: Iterable[Group]) -> None:
        self._places = {label: n for n, label in enumerate(dict.fromkeys(each.label for each in groups))}

    def style(self, label: str) -> str:
        """Classes of a line; the eleventh and later ones are dashed."""
        place = self._places[label]
        return f"s{place % _NUM_COLOURS}" + (" dashed" if place >= _NUM_COLOURS else "")

    def line(self, label: str, xs: Sequence[float], ys: Sequence[float], markers: bool = False) -> Series:
        """A line of that strategy."""
        return Series(label, xs, ys, self.style(label), markers)
