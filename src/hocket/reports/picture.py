"""A run as one self-contained page: what it learnt, how fast, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TypeVar

from hocket.core import clock, files
from hocket.core.events import Event
from hocket.reports import noise
from hocket.reports import run as runs
from hocket.reports.axes import duration, number, percent
from hocket.reports.run import RunInfo, RunRecord
from hocket.reports.svg import Series, line_chart, stacked_bars

T = TypeVar("T")

PAGE = "report.html"

_STYLE = Path(__file__).with_name("page.css")


def write(run: Path, now: clock.Clock = clock.wall) -> Path:
    """Write ``report.html`` into a run folder, as the run stands, and return its path.

    Raises :class:`~hocket.core.errors.RunError` when the folder holds no run.
    """
    path = run / PAGE
    files.write_text(path, page(runs.read(run), now()))
    return path


def page(record: RunRecord, now: float) -> str:
    """The page's HTML; ``now`` in seconds since the epoch."""
    info = runs.summarize(record, now)
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in _tiles(info)
    )
    charts = "\n".join(_charts(record, info))
    restarts = "".join(
        f"<tr><td>{r.attempt}</td><td>{'' if r.rank is None else r.rank}</td><td>{escape(r.reason)}</td></tr>"
        for r in info.restarts
    )
    head = "<tr><th>attempt</th><th>rank</th><th>why workers were started again</th></tr>"
    table = f"<table>{head}{restarts}</table>"
    name = escape("/".join(Path(info.run).resolve().parts[-2:]))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}: hocket</title><style>{_STYLE.read_text()}</style></head><body>\n"
        f"<h1>{name}</h1><p>{escape(_headline(info))}</p>\n"
        f'<div class="tiles">{tiles}</div>\n<div class="charts">\n{charts}\n</div>\n'
        f"{_advice(info)}{table if info.restarts else ''}</body></html>\n"
    )


def _advice(info: RunInfo) -> str:
    said = None if info.noise_scale is None else noise.advise(info.noise_scale)
    return "" if said is None else f"<p>Noise scale: {escape(said)}.</p>\n"


def _headline(info: RunInfo) -> str:
    of = "" if info.steps_total is None else f" of {info.steps_total:,}"
    left = f", {duration(info.seconds_left)} left" if info.seconds_left else ""
    return f"{info.state}: {info.steps_done:,}{of} steps{left}"


def _tiles(info: RunInfo) -> list[tuple[str, str]]:
    shown = [
        ("test WER", _said(info.wer, percent)),
        ("development WER", _said(info.dev_wer, percent)),
        ("loss, nats per token", _said(info.loss, number)),
        ("seconds of speech per second", _said(info.audio_per_second, number)),
        ("workers", _said(info.workers, str)),
        ("precision", info.precision),
        ("allocator", info.allocator),
        ("of the machine's matrix rate", _said(info.matrix_share, percent)),
        ("padding", _said(info.padding, percent)),
        ("noise scale, s of audio", _said(_noise_seconds(info), number)),
        ("slowest rank over mean", _said(info.imbalance, "{:.3f}".format)),
        ("steps skipped", str(info.steps_skipped) if info.steps_skipped else None),
    ]
    return [(name, value) for name, value in shown if value is not None]


def _noise_seconds(info: RunInfo) -> float | None:
    return None if info.noise_scale is None else info.noise_scale["noise_seconds"]


def _said(value: T | None, say: Callable[[T], str]) -> str | None:
    return None if value is None else say(value)


def _charts(record: RunRecord, info: RunInfo) -> list[str]:
    steps = [step for step in record.steps if not step.get("skipped")]
    validations = record.of_kind("validation")
    charts = []
    if steps:
        xs = [float(step["step"]) + 1 for step in steps]
        losses = [float(step["loss"]) for step in steps]
        lines = [
            Series("each step", xs, losses, "line-faint"),
            Series("training, smoothed", xs, _smooth(losses), "line-a"),
        ]
        lines.append(_of(validations, "loss", "development", "line-b"))
        charts.append(line_chart(lines, title="Loss", x_label="step", y_label="nats per token"))
    errors = [
        _of(validations, "wer", "words", "line-a", 100.0),
        _of(validations, "cer", "characters", "line-b", 100.0),
    ]
    if any(line.xs for line in errors):
        title = "Errors on the development part"
        charts.append(line_chart(errors, title=title, x_label="step", y_label="%", from_zero=True))
    if info.seconds and info.steps_done:
        count = max(len(record.steps), 1)
        by_kind = {kind: seconds / count for kind, seconds in info.seconds.items()}
        rows: dict[str, dict[str, float]] = {"rank 0": by_kind}
        charts.append(stacked_bars(rows, title="Where a step's time goes", unit="s"))
    if info.forecast is not None and info.seconds and info.steps_done:
        count = max(len(record.steps), 1)
        both = {
            "said": _as_in_runs(info.forecast.seconds),
            "took": {kind: seconds / count for kind, seconds in info.seconds.items()},
        }
        charts.append(stacked_bars(both, title="A step as the planner says it, and as it was", unit="s"))
    if len(info.rank_seconds) > 1:
        slowest = max(info.rank_seconds)
        busy = {
            f"rank {rank}": {"work": seconds, "idle": slowest - seconds}
            for rank, seconds in enumerate(info.rank_seconds)
        }
        title = "Work of each rank for a step, lately"
        charts.append(stacked_bars(busy, title=title, unit="s", note="work"))
    charts.extend(_waste(steps))
    noises = noise.chart(runs.surviving(record.of_kind("noise_scale"), record.of_kind("start")))
    return charts if noises is None else [*charts, noises]


def _as_in_runs(said: Mapping[str, float]) -> dict[str, float]:
    """Kinds that a plan alone tells apart, as a run counts them."""
    found = dict.fromkeys(runs.KINDS, 0.0)
    for kind, seconds in said.items():
        found[{"recompute": "compute", "bubble": "wait"}.get(kind, kind)] += seconds
    return found


def _waste(steps: Sequence[Event]) -> list[str]:
    charts = []
    for field, title, unit, least in (
        ("padding", "Padding", "% of the frames computed", 0.0),
        ("imbalance", "Imbalance", "% that the slowest rank works above the mean", 1.0),
    ):
        found = _of(steps, field, title, "line-a", markers=False)
        line = Series(title, found.xs, [100.0 * (y - least) for y in found.ys], found.style)
        if line.xs:
            charts.append(line_chart([line], title=title, x_label="step", y_label=unit, from_zero=True))
    return charts


def _of(
    events: Sequence[Event], field: str, name: str, style: str, scale: float = 1.0, markers: bool = True
) -> Series:
    found = [event for event in events if event.get(field) is not None]
    ys = [float(event[field]) * scale for event in found]
    return Series(name, [float(event["step"]) for event in found], ys, style, markers)


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential mean over about a fiftieth of the run, without the pull of a starting value."""
    keep = 1 - 1 / max(2.0, len(values) / 50)
    total = weight = 0.0
    smoothed = []
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        smoothed.append(total / weight)
    return smoothed
