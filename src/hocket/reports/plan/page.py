"""``plan.html``: self-contained, readable on a phone, for someone who never planned a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import hocket.reports
from hocket.reports.axes import duration, number, percent
from hocket.reports.plan import pictures

_HERE = Path(__file__).parent
_REPORTS = Path(hocket.reports.__file__).parent
_STYLES = (_REPORTS / "page.css", _REPORTS / "scale" / "scale.css", _HERE / "plan.css")
_LISTED = 60


def page(answer: Mapping[str, Any]) -> str:
    """The page's HTML, from what ``hocket plan --json`` says."""
    style = "".join(path.read_text() for path in _STYLES)
    name = escape(f"{Path(answer['recipe']).stem} on {answer['hardware']}")
    words = "".join(f"<p class='told'>{escape(paragraph)}</p>" for paragraph in answer["explanation"])
    notes = "".join(f"<li>{escape(note)}</li>" for note in answer["notes"])
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(said)}</span></div>" for said, value in _tiles(answer)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>Plan: {name}</title><style>{style}</style></head><body>\n<h1>Plan: {name}</h1>\n"
        f'<div class="tiles">{tiles}</div>\n{words}\n{_figures(answer)}\n{_tables(answer)}\n'
        f"<h2>What this stands on</h2><ul>{notes}</ul></body></html>\n"
    )


def _tiles(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    chosen = answer["chosen"]
    found = [
        ("devices", f"{chosen['workers']:,}"),
        ("layout", chosen["layout"]),
        ("seconds of speech learnt from in a second", number(chosen["audio_per_second"])),
        ("a step", duration(chosen["step_seconds"])),
        ("the run", duration(chosen["run_seconds"])),
        ("memory of the fullest device", f"{chosen['memory_bytes']['total'] / 1e9:.2f} GB"),
        ("of the time is computing", percent(chosen["seconds"]["compute"] / chosen["step_seconds"])),
    ]
    if chosen["dollars"] is not None:
        found.append(("dollars", f"{chosen['dollars']:,.2f}"))
    if chosen["kilowatt_hours"] is not None:
        found.append(("kWh", number(chosen["kilowatt_hours"])))
    return found


def _figures(answer: Mapping[str, Any]) -> str:
    shown = [answer["chosen"]]
    for each in answer["candidates"]:
        if each["layout"] not in [other["layout"] for other in shown] and each["same_answer"]:
            shown.append(each)
    best_other = next((each for each in answer["candidates"] if not each["same_answer"]), None)
    shown = shown[:6] + ([] if best_other is None else [best_other])
    sections = [
        ("Where the time of a step goes", _TIME, [pictures.times(shown)]),
        ("Memory of the fullest device", _MEMORY, [pictures.memory(shown, answer["memory_there"])]),
        ("What more devices bring", _SCALING, pictures.scaling(answer["scaling"], answer["chosen"])),
        ("How near to the hardware's limits", _ROOFLINE, pictures.roofline(answer["roofline"])),
        ("The network", _NETWORK, pictures.topology(answer["topology"])),
    ]
    return "\n".join(
        f'<h2>{escape(title)}</h2><p>{escape(told)}</p>\n<div class="charts">\n{"".join(drawn)}\n</div>'
        for title, told, drawn in sections
        if drawn
    )


_TIME = (
    "The chosen layout first, then others. Computing is useful work; everything else is what being parallel "
    "costs: sending what no computing hides, waiting for the slowest, a pipeline's bubble."
)
_MEMORY = "Of tensors, at the fullest moment. What does not fit is not in the list."
_SCALING = (
    "The chosen layout, copied over ever more devices. Weak: every device keeps its share of speech, so "
    "that a step grows with the devices, and learns from more at once. Strong: the recipe's step for all."
)
_ROOFLINE = (
    "A part of the model can be no faster than the roof above it: the slope is the memory's bandwidth, the "
    "flat part the arithmetic. A large dot takes much of the time."
)
_NETWORK = "The busier a link is in a step, the thicker; the one that is busy longest is marked."


def _tables(answer: Mapping[str, Any]) -> str:
    head = (
        *("", "workers", "layout", "agreement", "precision", "cut into"),
        *("step, s", "speech/s", "GB", "bytes sent"),
    )
    rows = [
        (
            "chosen" if each == answer["chosen"] else "" if each["same_answer"] else "learns otherwise",
            f"{each['workers']:,}",
            each["layout"],
            each["sync"],
            each["precision"],
            f"{each['micro_batches_per_step']}",
            number(each["step_seconds"]),
            number(each["audio_per_second"]),
            f"{each['memory_bytes']['total'] / 1e9:.2f}",
            number(sum(each["bytes_per_step"].values())),
        )
        for each in answer["candidates"][:_LISTED]
    ]
    refused: dict[str, int] = {}
    for each in answer["refused"]:
        refused[each["reason"]] = refused.get(each["reason"], 0) + 1
    why = sorted(refused.items(), key=lambda each: -each[1])
    return f"<h2>All candidates</h2>{_table(head, rows)}" + (
        "<h2>What cannot be</h2>"
        + _table(("candidates", "why"), [(f"{count:,}", reason) for reason, count in why])
        if why
        else ""
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{top}</tr>{body}</table></div>'
