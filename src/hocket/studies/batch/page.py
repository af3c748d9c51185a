"""The page of a study of batch sizes: self-contained, readable on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import hocket.reports
from hocket.reports.axes import duration, number, percent
from hocket.reports.svg import Series, line_chart
from hocket.studies.batch.knee import EARLY, Size
from hocket.studies.batch.running import audio_of_bins

if TYPE_CHECKING:
    from hocket.studies.batch.study import BatchReport

_STYLES = (Path(hocket.reports.__file__).with_name("page.css"), Path(__file__).with_name("page.css"))
_LINES = ("line-a", "line-b", "line-c", "line-d", "line-e", "line-f")
_X = "size of a step, over the recipe's"


def draw(report: BatchReport) -> str:
    """The page's HTML: what it comes to, pictures, then the table behind them."""
    style = "".join(path.read_text() for path in _STYLES)
    name = escape(f"{report.recipe}: how large a batch")
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for what, value in _tiles(report)
    )
    sections = "\n".join(
        f'<section class="of-{len(charts)}"><h2>{escape(title)}</h2><p>{escape(told)}</p>\n'
        f'<div class="charts">\n{"".join(charts)}\n</div></section>'
        for title, told, charts in _sections(report)
        if charts
    )
    machine = ", ".join(f"{key} {value}" for key, value in report.machine.items() if value)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{name}: hocket</title><style>{style}</style></head><body>\n"
        f"<h1>{name}</h1><p>{escape(_headline(report))}</p>\n"
        f'<div class="tiles">{tiles}</div>\n<div class="sections">{sections}</div>\n{_table(report)}\n'
        f"<p>{escape(machine)}</p></body></html>\n"
    )


def _headline(report: BatchReport) -> str:
    left = report.num_planned - report.num_cells - len(report.failed)
    more = f"; {left} more to come: the same command goes on" if left else ""
    knee = ""
    if report.knee.seconds is not None:
        times = 2 ** _doublings(report, report.knee.seconds)
        size = f"{number(report.knee.seconds)} s of audio, {number(times)} times the recipe's"
        knee = f" The knee: steps of {size}, need twice the audio of the smallest for the same loss."
    return f"{report.num_cells} runs on the same audio each, scored on the {report.split} part{more}.{knee}"


def _tiles(report: BatchReport) -> list[tuple[str, str]]:
    knee = report.knee
    shown = [
        ("the knee, s of audio a step", knee.seconds),
        (f"noise scale after {EARLY:.0%} of a run, s", knee.noise_early),
        ("noise scale of whole runs, s", knee.noise_whole),
        ("early noise scale over knee", knee.ratio),
        ("target loss, nats per token", knee.target_loss),
    ]
    tiles = [(name, number(value)) for name, value in shown if value is not None]
    return [*tiles, ("recommended rule", report.rule)]


def _sections(report: BatchReport) -> list[tuple[str, str, list[str]]]:
    return [
        (
            "To the same loss",
            "Audio and steps until the smoothed training loss was at the target. At the knee it takes twice "
            "the audio of the smallest steps. Sizes that never got there have no point.",
            [
                *_to_target(report, "audio_to_target", "Audio to the target loss", "s of audio"),
                *_to_target(report, "steps_to_target", "Steps to the target loss", "steps"),
            ],
        ),
        (
            "Word error rate on the same audio",
            "All runs learn from the same audio, so larger steps are fewer. Points are means over seeds; the "
            "table has their intervals.",
            _wer(report),
        ),
        (
            "The noise scale",
            "Measured in the runs of the recipe's own size, over the part of the run that is done; the knee "
            "is what whole runs of all sizes came to.",
            _noise(report),
        ),
        (
            "Loss over audio",
            f"The first seed of each size, rule {report.rule}.",
            _losses(report),
        ),
        (
            "What more workers bring",
            "Each worker computes one micro-batch of the recipe's size a step. What a second of their time "
            "brings, over that of one worker, by the knee and by the noise scale that was measured early.",
            _workers(report),
        ),
    ]


def _of_rule(report: BatchReport, rule: str) -> list[Size]:
    """Sizes of a rule; the recipe's own size has one for all."""
    smallest = min(size.times for size in report.sizes)
    return [size for size in report.sizes if size.rule == rule or size.times == smallest]


def _rules(report: BatchReport) -> list[str]:
    smallest = min(size.times for size in report.sizes)
    rules = {size.rule for size in report.sizes if size.times != smallest}
    return sorted(rules, key=lambda rule: (rule != report.rule, rule))


def _doublings(report: BatchReport, batch_seconds: float) -> float:
    smallest = min(report.sizes, key=lambda size: size.times)
    return math.log2(batch_seconds / (smallest.batch_seconds / smallest.times))


def _to_target(report: BatchReport, field: str, title: str, unit: str) -> list[str]:
    lines = []
    for rule, style in zip(_rules(report), _LINES, strict=False):
        points = [(size, getattr(size, field)) for size in _of_rule(report, rule)]
        told = [
            (_doublings(report, size.batch_seconds), value) for size, value in points if value is not None
        ]
        lines.append(Series(rule, [x for x, _ in told], [y for _, y in told], style, True))
    knee = report.knee
    if field == "audio_to_target" and knee.seconds and knee.least_audio:
        xs = [place / 10 for place in range(0, 10 * round(_widest(report)) + 1)]
        batch = min(report.sizes, key=lambda size: size.times)
        one = batch.batch_seconds / batch.times
        ys = [knee.least_audio * (1 + one * 2**x / knee.seconds) for x in xs]
        lines.append(Series("least × (1 + batch / knee)", xs, ys, "line-faint"))
    if not any(line.xs for line in lines):
        return []
    return [_over_sizes(report, lines, title, unit)]


def _over_sizes(report: BatchReport, lines: list[Series], title: str, unit: str) -> str:
    """A chart whose x axis doubles from tick to tick."""
    return line_chart(
        lines,
        title=title,
        x_label=_X,
        y_label=unit,
        from_zero=True,
        x_ticks=range(math.floor(_widest(report)) + 1),
        x_names=lambda doublings: f"×{2**doublings:g}",
    )


def _widest(report: BatchReport) -> float:
    return max(_doublings(report, size.batch_seconds) for size in report.sizes)


def _wer(report: BatchReport) -> list[str]:
    lines = []
    for rule, style in zip(_rules(report), _LINES, strict=False):
        chosen = _of_rule(report, rule)
        xs = [_doublings(report, size.batch_seconds) for size in chosen]
        lines.append(Series(rule, xs, [100 * size.wer for size in chosen], style, True))
        if rule == report.rule:
            for edge in ("low", "high"):
                ys = [100 * getattr(size, f"wer_{edge}") for size in chosen]
                lines.append(Series(f"{rule}, 95 %", xs, ys, "line-faint"))
    if not lines:
        return []
    return [_over_sizes(report, lines, "Word error rate", "%")]


def _noise(report: BatchReport) -> list[str]:
    smallest = min(each.times for each in report.runs)
    lines = []
    for each, style in zip([run for run in report.runs if run.times == smallest], _LINES, strict=False):
        if each.noise:
            xs, ys = [100 * done for done, _ in each.noise], [seconds for _, seconds in each.noise]
            lines.append(Series(f"seed {each.seed}", xs, ys, style))
    if not lines:
        return []
    if report.knee.seconds is not None:
        lines.append(Series("knee", [0.0, 100.0], [report.knee.seconds] * 2, "line-faint"))
    title, unit = "Noise scale while learning", "s of audio"
    return [line_chart(lines, title=title, x_label="% of the run", y_label=unit, from_zero=True)]


def _losses(report: BatchReport) -> list[str]:
    smallest = min(each.times for each in report.runs)
    chosen = [each for each in report.runs if each.rule == report.rule or each.times == smallest]
    first = min(each.seed for each in chosen)
    lines = [
        Series(f"×{each.times}", audio_of_bins(each), each.losses, style)
        for each, style in zip([run for run in chosen if run.seed == first], _LINES, strict=False)
    ]
    return (
        [line_chart(lines, title="Training loss", x_label="s of audio", y_label="nats per token")]
        if lines
        else []
    )


def _workers(report: BatchReport) -> list[str]:
    base = min(report.sizes, key=lambda size: size.times)
    one = base.batch_seconds / base.times / report.micro_batches_per_step
    scales = [("by the knee", report.knee.seconds), ("by the early noise scale", report.knee.noise_early)]
    most = 2 * max(size.times for size in report.sizes) * report.micro_batches_per_step
    xs = [float(workers) for workers in range(1, most + 1)]
    lines = [
        Series(name, xs, [x * (1 + one / scale) / (1 + x * one / scale) for x in xs], style)
        for (name, scale), style in zip(scales, _LINES, strict=False)
        if scale is not None
    ]
    if not lines:
        return []
    title, unit = "Progress a second over one worker", "times"
    return [line_chart(lines, title=title, x_label="workers", y_label=unit, from_zero=True)]


_HEAD = (
    "step",
    "rule",
    "seeds",
    "steps",
    "largest rate",
    "WER",
    "95 %",
    "loss",
    "audio to target",
    "steps to target",
)


def _table(report: BatchReport) -> str:
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in _row(size))}</tr>" for size in report.sizes
    )
    head = "".join(f"<th>{name}</th>" for name in _HEAD)
    failed = "".join(f"<p>Failed: {escape(label)}: {escape(why)}</p>" for label, why in report.failed.items())
    return f'<h2>All sizes</h2><div class="wide"><table><tr>{head}</tr>{rows}</table></div>{failed}'


def _row(size: Size) -> Sequence[str]:
    audio, steps = size.audio_to_target, size.steps_to_target
    return (
        f"×{size.times}: {number(size.batch_seconds)} s",
        size.rule,
        str(len(size.seeds)),
        f"{size.steps:,}",
        f"{size.largest_lr:.2g}",
        percent(size.wer),
        f"{100 * size.wer_low:.1f} to {100 * size.wer_high:.1f}",
        number(size.loss),
        "not reached" if audio is None else duration(audio),
        "not reached" if steps is None else f"{steps:,.0f}",
    )
