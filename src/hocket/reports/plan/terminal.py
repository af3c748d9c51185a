"""A plan in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hocket.planning.explain import size
from hocket.reports.axes import brief, duration, number
from hocket.reports.plan.running import better, by_workers, command, paid, ranks_of_hosts
from hocket.reports.tables import facts

_SHOWN, _OTHERS = 8, 4
_REASONS = 5

Told = Mapping[str, Any]


def plan(answer: Told, *, explain: bool, page: str, written: Path | None) -> RenderableType:
    """What to run, what fewer and more devices bring, the best ways, what was refused, and on demand why."""
    chosen = answer["chosen"]
    parts: list[RenderableType] = [_by_workers(answer), _candidates(answer)]
    refused = _refused(answer)
    if refused is not None:
        parts.append(refused)
    if explain:
        parts += [Padding(Text(paragraph), (1, 0, 0, 0)) for paragraph in answer["explanation"]]
    placed = answer["placement"]
    rows = [("stands on" if place == 0 else "", note) for place, note in enumerate(answer["notes"])]
    rows.append(("as it stands", _own(answer)))
    if placed is not None and answer["hosts"] > 1:
        rows += [("ranks", ranks_of_hosts(placed)), ("why there", placed["why"])]
    rows += [("page", page), ("written", None if written is None else str(written))]
    rows.append(("run", command(answer, written)))
    if written is None and not chosen["same_answer"]:
        rows[-1] = ("run", "--write FILE writes the recipe of this plan")
    parts.append(Padding(facts(rows), (1, 0, 0, 0)))
    return Group(*parts)


def _own(answer: Told) -> str:
    """What the recipe's own layout takes, beside the plan's."""
    own, chosen = answer["own"], answer["chosen"]
    if own is None:
        return f"the recipe cannot be run so: {answer['why_not_own']}"
    if own["layout"] == chosen["layout"] and chosen["same_answer"]:
        return f"the recipe needs no change: on {_devices(answer, own)} this is what it does"
    gain = own["run_seconds"] / chosen["run_seconds"]
    said = f"the plan is {gain:.2f} times as fast" if gain > 1.005 else "the plan is no faster"
    return (
        f"the recipe does {own['layout']} on {_devices(answer, own)}: {brief(own['step_seconds'])} a step, "
        f"{duration(own['run_seconds'])}; {said}"
    )


def _devices(answer: Told, each: Told) -> str:
    return f"{each['workers']:,} {answer['unit']}" + ("" if each["workers"] == 1 else "s")


def _by_workers(answer: Told) -> Table:
    """The best for each number of devices: what to buy."""
    table = _table(
        f"How many {answer['unit']}s: {answer['recipe']} on {answer['hardware']}", "-> is recommended"
    )
    head, rows = by_workers(answer, "->")
    _columns(table, head)
    for row in rows:
        table.add_row(*map(Text, row), style="bold" if row[0] else None)
    return table


def _candidates(answer: Told) -> Table:
    table = _table(
        f"Ways to run it, by {answer['objective']}",
        "* learns something else than the recipe says: another precision, agreement or cut of a step",
    )
    units = f"{answer['unit']}s"
    _columns(table, ("", units, "layout", "agreement", "precision", "a step", "speech/s", "the run"))
    _columns(table, ("memory", "computing", "sending", "waiting", "reading"))
    known = paid(answer)
    _columns(table, list(known.values()))
    chosen = answer["chosen"]
    own = [each for each in answer["candidates"] if each["same_answer"]][:_SHOWN]
    others = better(answer)[:_OTHERS]
    shown = own + others
    for each in shown if chosen in shown else [chosen, *shown]:
        seconds = each["seconds"]
        row = [
            "->" if each == chosen else "" if each["same_answer"] else "*",
            f"{each['workers']:,}",
            each["layout"],
            each["sync"],
            each["precision"],
            brief(each["step_seconds"]),
            number(each["audio_per_second"]),
            duration(each["run_seconds"]),
            size(each["memory_bytes"]["total"]),
            _share(seconds, each, "compute", "recompute", "optimiser"),
            _share(seconds, each, "communication"),
            _share(seconds, each, "wait", "bubble"),
            _share(seconds, each, "data"),
            *(number(each[name]) for name in known),
        ]
        table.add_row(*map(Text, row), style="bold" if each == chosen else None)
    return table


def _refused(answer: Told) -> Table | None:
    reasons: dict[str, list[str]] = {}
    for each in answer["refused"]:
        reasons.setdefault(each["reason"], []).append(each["candidate"])
    if not reasons:
        return None
    table = Table(title="Left out", title_justify="left", title_style="bold", show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    ordered = sorted(reasons.items(), key=lambda each: -len(each[1]))
    for reason, candidates in ordered[:_REASONS]:
        table.add_row(Text(f"{len(candidates):,}"), Text(f"{reason} (such as {candidates[0]})"))
    rest = sum(len(candidates) for _, candidates in ordered[_REASONS:])
    if rest:
        table.add_row(Text(f"{rest:,}"), Text("for other reasons: --json lists all"))
    return table


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        caption=caption,
        caption_justify="left",
    )


def _columns(table: Table, names: Sequence[str]) -> None:
    words = ("", "layout", "best layout", "agreement", "precision")
    for name in names:
        table.add_column(name, justify="left" if name in words else "right")


def _share(seconds: Mapping[str, float], each: Told, *kinds: str) -> str:
    return f"{100 * sum(seconds[kind] for kind in kinds) / each['step_seconds']:.0f} %"
