"""A plan in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hocket.reports.axes import duration, number
from hocket.reports.tables import facts

_SHOWN = 12
_REASONS = 5


def plan(answer: Mapping[str, Any], *, explain: bool, page: str, written: Path | None) -> RenderableType:
    """The candidates that are best, what was refused, and on demand the plan in words."""
    parts: list[RenderableType] = [_candidates(answer)]
    refused = _refused(answer)
    if refused is not None:
        parts.append(refused)
    if explain:
        parts += [Padding(Text(paragraph), (1, 0, 0, 0)) for paragraph in answer["explanation"]]
    parts.append(Padding(facts([("note", note) for note in answer["notes"]]), (1, 0, 0, 0)))
    chosen = answer["chosen"]
    run = f"hocket train {written or answer['recipe']} --workers {chosen['workers']}"
    if written is None and not chosen["same_answer"]:
        run = "--write FILE writes the recipe of this plan"
    elif written is None and chosen["layout"] != "single":
        run += f" --layout {chosen['layout']}"
    parts.append(
        facts(
            [
                ("as it stands", _own(answer)),
                ("page", page),
                ("written", None if written is None else str(written)),
                ("run", run),
            ]
        )
    )
    return Group(*parts)


def _own(answer: Mapping[str, Any]) -> str:
    """What the recipe's own layout takes, beside the plan's."""
    own, chosen = answer["own"], answer["chosen"]
    if own is None:
        return f"it cannot be: {answer['why_not_own']}"
    gain = own["run_seconds"] / chosen["run_seconds"]
    return (
        f"{own['layout']} on {own['workers']:,}: {_short(own['step_seconds'])} a step, "
        f"{duration(own['run_seconds'])}; the plan is {gain:.2f} times as fast"
    )


def _candidates(answer: Mapping[str, Any]) -> Table:
    table = Table(
        title=f"{answer['recipe']} on {answer['hardware']}, by {answer['objective']}",
        title_justify="left",
        title_style="bold",
        caption="* changes what is learnt: another precision, agreement or cut than the recipe's",
        caption_justify="left",
    )
    table.add_column("")
    for name in ("workers", "layout", "agreement", "precision"):
        table.add_column(name, justify="right" if name == "workers" else "left")
    for name in ("step", "speech/s", "run", "memory", "computing", "sending", "waiting"):
        table.add_column(name, justify="right")
    lacking = [name for name in ("dollars", "kilowatt_hours") if answer["chosen"][name] is None]
    for name, header in (("dollars", "$"), ("kilowatt_hours", "kWh")):
        if name not in lacking:
            table.add_column(header, justify="right")
    chosen = answer["chosen"]
    shown = answer["candidates"][:_SHOWN]
    shown = shown if chosen in shown else [*shown, chosen]
    for each in shown:
        mark = "->" if each == chosen else "" if each["same_answer"] else "*"
        seconds = each["seconds"]
        row = [
            mark,
            f"{each['workers']:,}",
            each["layout"],
            each["sync"],
            each["precision"],
            _short(each["step_seconds"]),
            number(each["audio_per_second"]),
            duration(each["run_seconds"]),
            f"{each['memory_bytes']['total'] / 1e9:.2f} GB",
            _share(seconds, each, "compute", "recompute"),
            _share(seconds, each, "communication"),
            _share(seconds, each, "wait", "bubble", "data"),
        ]
        row += [number(each[name]) for name in ("dollars", "kilowatt_hours") if name not in lacking]
        table.add_row(*(Text(cell) for cell in row), style="bold" if each == chosen else None)
    return table


def _refused(answer: Mapping[str, Any]) -> Table | None:
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


def _share(seconds: Mapping[str, float], each: Mapping[str, Any], *kinds: str) -> str:
    return f"{100 * sum(seconds[kind] for kind in kinds) / each['step_seconds']:.0f} %"


def _short(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms" if seconds < 1 else f"{seconds:,.2f} s"
