"""A study in the terminal: what it would run, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hocket.reports.axes import duration, number
from hocket.reports.scale import tables
from hocket.reports.scale.facts import Study
from hocket.reports.scale.groups import groups_of


class PlannedCell(Protocol):
    """A cell that is to be run, or was."""

    @property
    def label(self) -> str:
        """What it is."""
        ...

    @property
    def done(self) -> bool:
        """True when it need not be run."""
        ...

    @property
    def expected_seconds(self) -> float:
        """About how long it will take."""
        ...


def planned(cells: Sequence[PlannedCell], notes: Sequence[str]) -> RenderableType:
    """The grid, and about how long it will take."""
    table = Table(title="cells", title_justify="left", title_style="bold")
    table.add_column("cell", overflow="fold")
    table.add_column("about", justify="right", no_wrap=True)
    for each in cells:
        table.add_row(Text(each.label), "done" if each.done else duration(each.expected_seconds))
    left = [each for each in cells if not each.done]
    whole = sum(each.expected_seconds for each in left)
    said = f"{len(left):,} of {len(cells):,} cells to run, about {duration(whole)}"
    return Group(table, Text("\n".join([said, *notes])))


def found(study: Study, page: Path) -> RenderableType:
    """Every group of seeds as a row, and where the pictures are."""
    head, rows = tables.overview(groups_of(study))
    table = Table(title=tables.summary(study), title_justify="left", title_style="bold")
    shown = [place for place in range(len(head)) if len({row[place] for row in rows}) > 1 or place < 2]
    for place in shown:
        name = head[place].removesuffix(",")
        table.add_column(name, justify="right" if "," in head[place] else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[place]) for place in shown))
    lines = [f"pictures: {page}"]
    if study.target_loss is not None:
        lines.insert(0, f"the loss: {number(study.target_loss)} nats per token, {study.target_why}")
    lines += [f"failed: {label}: {reason}" for label, reason in study.failed]
    return Group(table, Text("\n".join([*lines, *study.notes])))
