"""``plan.html``: self-contained, readable on a phone, for someone who never planned a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from hocket.planning.explain import size
from hocket.reports.axes import brief, duration, number, percent
from hocket.reports.plan import pictures
from hocket.reports.plan.html import document, table
from hocket.reports.plan.running import better, by_workers, command, ranges

_LISTED = 30
_DRAWN, _HOSTS = 6, 8
_MARK = "\N{RIGHTWARDS ARROW}"


def page(answer: Mapping[str, Any]) -> str:
    """The page's HTML, from what ``hocket plan --json`` says."""
    name = f"{Path(answer['recipe']).stem} on {answer['hardware']}"
    run = command(answer, None)
    if not answer["chosen"]["same_answer"]:
        run = "hocket plan ... --write FILE, and hocket train FILE"
    body = f"{_by_workers(answer)}\n{_figures(answer)}\n{_tables(answer)}"
    return document(name, _tiles(answer), answer["explanation"], [run], body, answer["notes"])


def _tiles(answer: Mapping[str, Any]) -> list[tuple[str, str]]:
    chosen, unit = answer["chosen"], answer["unit"]
    found = [
        (f"of {answer['devices']:,} {unit}s", f"{chosen['workers']:,}"),
        ("layout", chosen["layout"]),
        ("seconds of speech learnt from in a second", number(chosen["audio_per_second"])),
        ("a step", brief(chosen["step_seconds"])),
        ("the run", duration(chosen["run_seconds"])),
        (f"memory of the fullest {unit}", size(chosen["memory_bytes"]["total"])),
        ("of the time is computing", percent(chosen["seconds"]["compute"] / chosen["step_seconds"])),
    ]
    if chosen["dollars"] is not None:
        found.append(("dollars", f"{chosen['dollars']:,.2f}"))
    if chosen["kilowatt_hours"] is not None:
        found.append(("kWh", number(chosen["kilowatt_hours"])))
    return found


def _figures(answer: Mapping[str, Any]) -> str:
    chosen = answer["chosen"]
    degrees = {tuple(chosen["degrees"].values())}
    shown = [chosen]
    for each in [*answer["by_workers"][::-1], *answer["candidates"]]:
        of_each = tuple(each["degrees"].values())
        if each["same_answer"] == chosen["same_answer"] and of_each not in degrees and len(shown) < _DRAWN:
            shown.append(each)
            degrees.add(of_each)
    shown += better(answer)[:1]
    sections = [
        ("Where the time of a step goes", _TIME, [pictures.times(shown, answer["unit"])]),
        (
            f"Memory of the fullest {answer['unit']}",
            _MEMORY,
            [pictures.memory(shown, answer["unit"], answer["memory_there"])],
        ),
        (
            f"What more {answer['unit']}s bring",
            _SCALING,
            pictures.scaling(answer["scaling"], answer["chosen"], answer["unit"]),
        ),
        ("How near to the hardware's limits", _ROOFLINE, pictures.roofline(answer["roofline"])),
        ("The network", _network(answer), pictures.topology(answer["topology"])),
    ]
    drawn_ones = "\n".join(
        f"<section><h2>{escape(title)}</h2><p>{escape(told)}</p>\n{''.join(drawn)}\n</section>"
        for title, told, drawn in sections
        if drawn
    )
    return f'<div class="sections">\n{drawn_ones}\n</div>'


def _by_workers(answer: Mapping[str, Any]) -> str:
    """The best for each number of devices: what to buy."""
    units = f"{answer['unit']}s"
    drawn = table(*by_workers(answer, _MARK))
    return f"<h2>How many {units}</h2><p>{_MARK} is what this plan recommends.</p>{drawn}"


def _network(answer: Mapping[str, Any]) -> str:
    """What the picture shows, and why ranks sit where they do."""
    placed = answer["placement"]
    if placed is None:
        return _NETWORK
    hosts = [f"host {host} has ranks {ranges(ranks)}" for host, ranks in placed["ranks_of_host"].items()]
    said = "; ".join(hosts[:_HOSTS] + (["and so on"] if len(hosts) > _HOSTS else []))
    return f"{_NETWORK} Of this plan {said}. Why: {placed['why']}."


_TIME = (
    "The chosen way first, then the best of other numbers of devices, and the best that learns something "
    "else. Computing is useful work; everything else is what being parallel costs: sending that no computing "
    "hides, waiting for the slowest, a pipeline's bubble."
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
_NETWORK = (
    "Devices below, hosts above them, and above these the switches, if there are any. The busier a link "
    "is in a step, the thicker; the one that is busy longest is marked."
)


def _tables(answer: Mapping[str, Any]) -> str:
    head = (
        *("", f"{answer['unit']}s", "layout", "agreement", "precision", "micro-batches of a step"),
        *("a step", "speech learnt from, s/s", "memory", "sent by a worker, MB"),
    )
    own = [each for each in answer["candidates"] if each["same_answer"]]
    others = better(answer)
    listed = "".join(
        f"<h2>{title}</h2>{table(head, _rows(answer, each[:_LISTED]))}"
        for title, each in (("Ways to run the recipe", own), ("Better, but learning something else", others))
        if each
    )
    refused: dict[str, int] = {}
    for each in answer["refused"]:
        refused[each["reason"]] = refused.get(each["reason"], 0) + 1
    why = sorted(refused.items(), key=lambda each: -each[1])
    return listed + (
        "<h2>What cannot be</h2>" + table(("ways", "why"), [(f"{count:,}", reason) for reason, count in why])
        if why
        else ""
    )


def _rows(answer: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            _MARK if each == answer["chosen"] else "",
            f"{each['workers']:,}",
            each["layout"],
            each["sync"],
            each["precision"],
            f"{each['micro_batches_per_step']}",
            brief(each["step_seconds"]),
            number(each["audio_per_second"]),
            size(each["memory_bytes"]["total"]),
            number(sum(each["bytes_per_step"].values()) / 1e6),
        )
        for each in candidates
    ]
