"""What only the whole study tells of a cell: its speed-up, and when it reached the common loss."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from hocket.comms.links import LOOPBACK
from hocket.reports.scale.facts import Cell, Details, Parity
from hocket.studies.scale.cell import Measured, Scored
from hocket.studies.scale.grid import Point
from hocket.studies.scale.parity import parity

_TARGET_SHARE = 0.8


@dataclass(frozen=True)
class Finished:
    """A cell that was run, and scored if it was to be."""

    point: Point
    measured: Measured
    scored: Scored | None


def baseline_rate(finished: Sequence[Finished]) -> float | None:
    """Audio a second of plain all-reduce on one worker, median over its cells; None without one."""
    rates = [
        each.measured.audio_per_second
        for each in finished
        if each.point.workers == 1 and each.point.strategy.is_plain
    ]
    return statistics.median(rates) if rates else None


def target_of(finished: Sequence[Finished], wanted: float | None) -> tuple[float | None, str]:
    """The loss whose time is measured, and where it comes from in words."""
    if wanted is not None:
        return wanted, "as the study was told"
    plain = [each for each in finished if each.point.strategy.is_plain and each.point.scaling == "strong"]
    several = [each for each in plain if each.point.workers > 1] or plain
    if not several:
        return None, ""
    at = []
    for each in several:
        losses = each.measured.losses
        at.append(losses[min(len(losses) - 1, int(_TARGET_SHARE * len(losses)))])
    return statistics.median(
        at
    ), "what plain all-reduce had after four fifths of its steps, median of its cells"


def cells_of(
    finished: Sequence[Finished], rate: float | None, target: float | None
) -> tuple[tuple[Cell, Details], ...]:
    """The rows of ``scale.json``, and what belongs to each."""
    return tuple((_cell(each, rate, target), _details(each)) for each in finished)


def _cell(each: Finished, rate: float | None, target: float | None) -> Cell:
    point, measured, scored = each.point, each.measured, each.scored
    speedup = None if not rate else measured.audio_per_second / rate
    return Cell(
        strategy=point.strategy.sync.name,
        settings=point.settings,
        workers=point.workers,
        link=point.link,
        partition=point.partition,
        seed=point.seed,
        wer=None if scored is None else scored.wer,
        wer_low=None if scored is None else scored.wer_low,
        wer_high=None if scored is None else scored.wer_high,
        loss=round(measured.loss, 5),
        audio_seconds=round(measured.audio_seconds, 2),
        wall_seconds=round(measured.wall_seconds, 3),
        steps_per_second=round(measured.steps_per_second, 4),
        seconds_to_loss=seconds_to(measured.times, measured.losses, target),
        bytes_per_step=measured.bytes_per_step,
        speedup=None if speedup is None else round(speedup, 4),
        scaling_efficiency=None if speedup is None else round(speedup / point.workers, 4),
        seconds=mean_seconds(measured.seconds_by_rank),
    )


def seconds_to(times: Sequence[float], losses: Sequence[float], target: float | None) -> float | None:
    """When the smoothed loss was first at the target; None when it never was."""
    if target is None:
        return None
    return next((time for time, loss in zip(times, losses, strict=True) if loss <= target), None)


def mean_seconds(by_rank: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds by kind in the mean over ranks."""
    kinds = list(dict.fromkeys(kind for each in by_rank for kind in each))
    return {kind: round(sum(each.get(kind, 0.0) for each in by_rank) / len(by_rank), 3) for kind in kinds}


def _details(each: Finished) -> Details:
    measured = each.measured
    return Details(
        label=each.point.strategy.label,
        is_plain=each.point.strategy.is_plain,
        num_parameters=measured.num_parameters,
        num_steps=measured.num_steps,
        seconds_by_rank=measured.seconds_by_rank,
        imbalance=measured.imbalance,
        padding=measured.padding,
        staleness_mean=measured.staleness_mean,
        staleness_max=measured.staleness_max,
        shares=measured.shares,
        num_restarts=measured.num_restarts,
        times=measured.times,
        losses=measured.losses,
    )


def parities(finished: Sequence[Finished]) -> tuple[Parity, ...]:
    """WER over seeds of each strategy, workers and partition, on the loopback, where models were scored.

    Links change no step of a synchronous strategy, so their cells would only repeat these.
    """
    groups: dict[tuple[str, int, str], dict[int, Scored]] = {}
    plain: dict[tuple[int, str], str] = {}
    for each in finished:
        point = each.point
        if each.scored is None or point.link != LOOPBACK or point.scaling != "strong":
            continue
        groups.setdefault((point.strategy.label, point.workers, point.partition), {})[point.seed] = (
            each.scored
        )
        if point.strategy.is_plain:
            plain[point.workers, point.partition] = point.strategy.label
    found = []
    for (label, workers, partition), own in groups.items():
        other = plain.get((workers, partition))
        against = None if other in (None, label) else groups[str(other), workers, partition]
        found.append(parity(label, workers, partition, own, against))
    return tuple(found)
