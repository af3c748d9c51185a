"""The page of a study: self-contained, readable on a phone, every figure with its unit."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

import hocket.reports
from hocket.reports.axes import number
from hocket.reports.scale import pictures, tables
from hocket.reports.scale.facts import Study
from hocket.reports.scale.groups import Colours, groups_of

_HERE = Path(__file__).parent
_STYLES = (Path(hocket.reports.__file__).with_name("page.css"), _HERE / "scale.css")


def page(study: Study) -> str:
    """The page's HTML: pictures first, then the tables behind them."""
    style = "".join(path.read_text() for path in _STYLES)
    name = escape(f"{study.recipe} at scale")
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{name}: hocket</title><style>{style}</style></head><body>\n"
        f"<h1>{name}</h1><p>{escape(tables.summary(study))}</p>\n{_body(study)}\n</body></html>\n"
    )


def _body(study: Study) -> str:
    parts = [_notes(study)]
    groups = groups_of(study)
    if groups:
        colours = Colours(groups)
        partition = groups[0].partition
        pictured = [each for each in groups if each.partition == partition]
        speed = [
            drawn
            for kind in ("strong", "weak")
            for drawn in pictures.scaling(groups, colours, kind, partition)
        ]
        parts += [
            _section("Speed-up", _SPEEDUP, speed),
            _section("What it costs in words", _PARITY, pictures.parity(study)),
            tables.table("Word error rate over seeds", *tables.parity(study)),
            _section("Loss against time", _target(study), pictures.losses(pictured, colours)),
            tables.table("Seconds to the loss, by link", *tables.links(groups)),
            *(f"<p>{escape(said)}</p>" for said in tables.bounds(groups)),
            _section("Where the time went", _TIMES, pictures.times(pictured)),
            _section("On the wire", _WIRE, pictures.wire(pictured)),
            tables.table("Workers at their own pace", *tables.staleness(pictured)),
            tables.table("Partitions of a batch", *tables.partitions(groups)),
            "<h2>All cells</h2>",
            tables.table("Means over seeds", *tables.overview(groups)),
        ]
    failed = [[label, reason] for label, reason in study.failed]
    parts.append(tables.table("Cells that failed", ["cell", "why"], failed))
    machine = ", ".join(f"{key} {value}" for key, value in study.machine.items() if value)
    parts.append(f"<p>{escape(machine)}</p>")
    return "\n".join(part for part in parts if part)


_SPEEDUP = (
    "Audio learnt from in a second, over that of plain all-reduce on one worker. Strong: the same steps on "
    "any number of workers. Weak: N workers take N times the audio a step and an N-th of the steps."
)
_PARITY = "The same seeds, steps and audio on both sides; an interval that holds 0 shows no difference."
_TIMES = (
    "Seconds of each worker over the whole run. Communication is what computing did not hide; wait is for "
    "slower workers; a server in an ordered mode counts waiting for the others' parts as communication."
)
_WIRE = "Tensors and counts, without the headers of the network."


def _section(title: str, told: str, figures: Sequence[str]) -> str:
    if not figures:
        return ""
    body = "\n".join(figures)
    return f'<h2>{escape(title)}</h2><p>{escape(told)}</p>\n<div class="charts">\n{body}\n</div>'


def _target(study: Study) -> str:
    if study.target_loss is None:
        return ""
    return f"Times to the loss are to {number(study.target_loss)} nats per token: {study.target_why}."


def _notes(study: Study) -> str:
    said = list(study.notes)
    most = max((cell.workers for cell, _ in study.cells), default=1)
    cores = study.machine.get("cores")
    if isinstance(cores, int) and most > cores and not study.machine.get("accelerators"):
        said.append(
            f"{most} workers on {cores} cores: their losses and word errors count, their times do not "
            "say what as many cores would give."
        )
    restarted = sum(details.num_restarts > 0 for _, details in study.cells)
    if restarted:
        said.append(f"{restarted} cells lost a worker on their way: their times hold the restart.")
    return "".join(f'<p class="warning">{escape(each)}</p>' for each in said)
