"""The pictures of a study: speed-up, where the time went, bytes, loss against time, parity."""

from __future__ import annotations

from collections.abc import Sequence

from hocket.reports.axes import number
from hocket.reports.scale.charts import Interval, bars, intervals
from hocket.reports.scale.facts import Study
from hocket.reports.scale.groups import Colours, Group
from hocket.reports.svg import Series, line_chart, stacked_bars

_WER_BOUND = 10.0
"""Per cent: what a synchronous strategy may cost in WER before it needs a reason."""


def scaling(groups: Sequence[Group], colours: Colours, kind: str, partition: str) -> list[str]:
    """Speed-up and efficiency against workers, on one host."""
    chosen = [
        each
        for each in groups
        if each.link == "loopback"
        and each.partition == partition
        and (each.scaling == kind or each.workers == 1)
        and each.mean(lambda cell: cell.speedup) is not None
    ]
    most = max((each.workers for each in chosen), default=1)
    if most == 1 or not any(each.scaling == kind and each.workers > 1 for each in chosen):
        return []
    start = next(
        (each.mean(lambda cell: cell.speedup) for each in chosen if each.workers == 1 and each.is_plain), 1
    )
    speedups: list[Series] = [Series("perfect", [1, most], [1, most], "ideal")]
    efficiencies: list[Series] = [Series("perfect", [1, most], [100, 100], "ideal")]
    for label in dict.fromkeys(each.label for each in chosen):
        points = {
            each.workers: each.mean(lambda cell: cell.speedup) or 0.0
            for each in chosen
            if each.label == label
        }
        points.setdefault(1, start or 1.0)
        xs = sorted(points)
        speedups.append(colours.line(label, xs, [points[x] for x in xs], markers=True))
        efficiencies.append(colours.line(label, xs, [100 * points[x] / x for x in xs], markers=True))
    return [
        line_chart(
            speedups,
            title=f"Speed-up, {kind} scaling",
            x_label="workers",
            x_ticks=range(most + 1) if most <= 8 else None,
            y_label="times the audio a second of plain all-reduce on one worker",
            from_zero=True,
        ),
        line_chart(
            efficiencies,
            title=f"Efficiency, {kind} scaling",
            x_label="workers",
            x_ticks=range(most + 1) if most <= 8 else None,
            y_label="% of the speed-up that so many workers could give",
            from_zero=True,
        ),
    ]


def times(groups: Sequence[Group]) -> list[str]:
    """Where each worker's time went, a picture for every number of workers and link."""
    drawn = []
    for workers, link, partition, kind in dict.fromkeys(map(_place, groups)):
        here = [each for each in groups if _place(each) == (workers, link, partition, kind)]
        rows = {
            f"{each.label}\nrank {rank}": seconds
            for each in here
            for rank, seconds in enumerate(each.seconds_by_rank())
        }
        where = _where(workers, link, partition, kind)
        drawn.append(stacked_bars(rows, title=f"Where the time went: {where}", unit="s"))
    return drawn


def wire(groups: Sequence[Group]) -> list[str]:
    """Bytes that a worker puts on the wire for a step, by number of workers."""
    drawn = []
    chosen = [each for each in groups if each.scaling == "strong" and each.workers > 1]
    for workers in dict.fromkeys(each.workers for each in chosen):
        values: dict[str, float] = {}
        for each in chosen:
            if each.workers == workers:
                values.setdefault(each.label, each.mean(lambda cell: float(cell.bytes_per_step)) or 0.0)
        title = f"Bytes on the wire a step, {workers} workers"
        drawn.append(bars(list(values.items()), title=title, unit="of each worker, mean", said=in_bytes))
    return drawn


def losses(groups: Sequence[Group], colours: Colours) -> list[str]:
    """The smoothed loss of the first seed against time."""
    drawn = []
    for workers, link, partition, kind in dict.fromkeys(map(_place, groups)):
        here = [each for each in groups if _place(each) == (workers, link, partition, kind)]
        lines = [colours.line(each.label, each.details.times, each.details.losses) for each in here]
        where = _where(workers, link, partition, kind)
        seed = here[0].cells[0][0].seed
        drawn.append(
            line_chart(
                lines,
                title=f"Loss against time: {where}, seed {seed}",
                x_label="seconds of training",
                y_label="nats per token, smoothed",
            )
        )
    return drawn


def parity(study: Study) -> list[str]:
    """Change of WER against plain all-reduce, with its interval."""
    drawn = []
    for workers, partition in dict.fromkeys((each.workers, each.partition) for each in study.parity):
        found = [
            Interval(each.label, 100 * each.change, 100 * each.change_low, 100 * each.change_high)
            for each in study.parity
            if (each.workers, each.partition) == (workers, partition)
            and each.change is not None
            and each.change_low is not None
            and each.change_high is not None
        ]
        if found:
            where = _where(workers, "loopback", partition, "strong")
            drawn.append(
                intervals(
                    found,
                    title=f"WER against plain all-reduce: {where}",
                    unit="% more words wrong, 95 % interval over seeds and utterances; dashed: ±10 %",
                    said=lambda value: f"{value:+.1f}",
                    bounds=(-_WER_BOUND, _WER_BOUND),
                )
            )
    return drawn


def in_bytes(value: float) -> str:
    """``1.53 MB``, ``640 kB``."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{value:.0f} B"


def _place(group: Group) -> tuple[int, str, str, str]:
    return group.workers, group.link, group.partition, group.scaling


def _where(workers: int, link: str, partition: str, kind: str) -> str:
    words = ["one worker" if workers == 1 else f"{workers} workers", link]
    words += [f"partition {partition}"] if partition != "by_cost" else []
    words += ["weak scaling"] if kind == "weak" else []
    return ", ".join(words)
