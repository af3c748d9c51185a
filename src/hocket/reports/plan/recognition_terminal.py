"""A plan of recognition in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hocket.reports.plan.recognition_rows import Told, commands, reasons, title, ways
from hocket.reports.tables import facts

_SHOWN = 12
_WORDS = ("", "hardware", "backend", "precision", "micro-batch")


def plan(answer: Told, *, explain: bool, page: str) -> RenderableType:
    """The ways, what was left out, on demand why, and what to type."""
    listed = answer["by_way"][:_SHOWN]
    parts: list[RenderableType] = [_ways(answer, listed, f"Ways of {title(answer)}")]
    more = [each for each in answer["candidates"] if _like(each, answer["chosen"])][:_SHOWN]
    if len(more) > 1:
        parts.append(_ways(answer, more, "The chosen way, with other workers and micro-batches"))
    refused = reasons(answer)
    if refused:
        parts.append(_refused(refused))
    if explain:
        parts += [Padding(Text(paragraph), (1, 0, 0, 0)) for paragraph in answer["explanation"]]
    rows = [("stands on" if place == 0 else "", note) for place, note in enumerate(answer["notes"])]
    rows.append(("page", page))
    rows += [("run" if place == 0 else "", command) for place, command in enumerate(commands(answer))]
    parts.append(Padding(facts(rows), (1, 0, 0, 0)))
    return Group(*parts)


def _like(each: Told, chosen: Told) -> bool:
    return all(each[name] == chosen[name] for name in ("hardware", "backend", "precision"))


def _ways(answer: Told, candidates: Sequence[Told], name: str) -> Table:
    table = Table(
        title=name,
        title_justify="left",
        title_style="bold",
        caption="-> is recommended; * may cost words",
        caption_justify="left",
    )
    head, rows = ways(answer, candidates, "->")
    for column in head:
        table.add_column(column, justify="left" if column in _WORDS else "right")
    for row in rows:
        table.add_row(*map(Text, row), style="bold" if row[0] == "->" else None)
    return table


def _refused(refused: Sequence[tuple[str, str, int]]) -> Table:
    table = Table(title="Left out", title_justify="left", title_style="bold", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, why, number in refused[:_SHOWN]:
        more = "" if number == 1 else f" ({number - 1:,} more micro-batches: --json lists all)"
        table.add_row(Text(name), Text(why + more))
    return table
