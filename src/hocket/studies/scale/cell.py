"""What a run of a study did, read from its folder; and the file beside it that says that it is done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.core import events, files
from hocket.core.errors import RunError
from hocket.core.events import Event
from hocket.training.folder import RunFolder

_MEASURED, _SCORED = "measured.json", "scored.json"
_MOST_POINTS = 400
_WARM_UP = 0.1
"""Part of the steps that a rate leaves out: caches fill then."""


@dataclass(frozen=True)
class Measured:
    """One finished run. Times count from the beginning of its first step."""

    fingerprint: str
    num_parameters: int
    num_steps: int
    loss: float
    """Nats per token, smoothed, at the end."""
    audio_seconds: float
    """Audio learnt from."""
    wall_seconds: float
    """To the end of the last step; starting, validation and the last checkpoint do not count."""
    steps_per_second: float
    audio_per_second: float
    """Both without the first tenth of the run."""
    bytes_per_step: int
    seconds_by_rank: list[dict[str, float]]
    imbalance: float | None
    padding: float
    staleness_mean: float | None
    staleness_max: int | None
    shares: list[float]
    """Of the micro-batches that each worker did, where that was not planned."""
    num_restarts: int
    times: list[float]
    losses: list[float]
    """The smoothed loss against time, thinned."""
    took_seconds: float
    """From start to end of the whole cell, with starting and scoring."""


@dataclass(frozen=True)
class Scored:
    """How well its model recognises a split."""

    split: str
    wer: float
    wer_low: float
    wer_high: float
    errors: list[int]
    """Word errors of each utterance, in the order of the split."""
    words: list[int]
    """Words of its reference."""


def read(folder: Path, fingerprint: str) -> Measured | None:
    """The finished run in a cell's folder; None when there is none with these settings."""
    told = _read(folder / _MEASURED)
    return Measured(**told) if told is not None and told["fingerprint"] == fingerprint else None


def read_score(folder: Path, split: str) -> Scored | None:
    """The score of a cell on that split, if it has one."""
    told = _read(folder / _SCORED)
    return Scored(**told) if told is not None and told["split"] == split else None


def write(folder: Path, measured: Measured) -> None:
    """From now on the run counts as finished."""
    files.write_json(folder / _MEASURED, asdict(measured))


def write_score(folder: Path, scored: Scored) -> None:
    """From now on it counts as scored."""
    files.write_json(folder / _SCORED, asdict(scored))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return told


def measure(run: RunFolder, fingerprint: str, took_seconds: float) -> Measured:
    """Read a finished run. Raises :class:`RunError` when it took too few steps to tell a rate."""
    steps = events.surviving_steps(run.events)
    if len(steps) < 2:
        raise RunError(f"{run.root}: {len(steps)} steps tell no rate", "Give a study more --steps.")
    summary = json.loads(run.summary.read_text())
    told = list(events.read(run.events))
    begun = _begun(steps)
    times = [float(step["time"]) - begun for step in steps]
    losses = smooth([float(step["loss"]) for step in steps])
    first = int(len(steps) * _WARM_UP)
    while first + 2 < len(steps) and times[first + 1] - times[first] < 0.2 * times[-1] / len(steps):
        first += 1  # to the end of what was told at once
    steady = max(times[-1] - times[first], 1e-9)
    frames = [int(step["num_frames"]) for step in steps]
    thin = max(1, -(-len(steps) // _MOST_POINTS))
    kept = sorted({*range(thin - 1, len(steps), thin), len(steps) - 1})
    leases = summary.get("leases", {})
    return Measured(
        fingerprint=fingerprint,
        num_parameters=next(int(each["num_parameters"]) for each in told if each["event"] == "start"),
        num_steps=len(steps),
        loss=losses[-1],
        audio_seconds=0.01 * sum(frames),
        wall_seconds=times[-1],
        steps_per_second=(len(steps) - 1 - first) / steady,
        audio_per_second=0.01 * sum(frames[first + 1 :]) / steady,
        bytes_per_step=int(summary["bytes_per_step"]),
        seconds_by_rank=summary["seconds_by_rank"],
        imbalance=_mean_of(steps, "imbalance"),
        padding=float(summary["padding"]),
        staleness_mean=leases.get("staleness_mean"),
        staleness_max=leases.get("staleness_max"),
        shares=[share for _, share in sorted(leases.get("shares", {}).items(), key=lambda kv: int(kv[0]))],
        num_restarts=sum(each["event"] in ("restart", "worker_lost", "shard_lost") for each in told),
        times=[round(times[place], 4) for place in kept],
        losses=[round(losses[place], 5) for place in kept],
        took_seconds=took_seconds,
    )


def _begun(steps: Sequence[Event]) -> float:
    """When the first step began: events come late, by a step or at the end of a round.

    Where workers take steps together, what rank 0 spent until the end of a step lies before its event.
    """
    if "by_worker" in steps[0]:
        return float(steps[0]["time"] - sum(steps[0]["seconds"].values()))
    spent = 0.0
    starts: list[float] = []
    for step in steps:
        spent += sum(step["seconds"].values())
        starts.append(float(step["time"]) - spent)
    return min(starts)


def smooth(losses: Sequence[float]) -> list[float]:
    """The mean of the last steps, a fiftieth of the run but at least five: noise goes, delay stays small."""
    window = max(5, len(losses) // 50)
    smoothed, total = [], 0.0
    for place, loss in enumerate(losses):
        total += loss - (losses[place - window] if place >= window else 0.0)
        smoothed.append(total / min(place + 1, window))
    return smoothed


def _mean_of(steps: Sequence[Event], field: str) -> float | None:
    values = [float(step[field]) for step in steps if field in step]
    return sum(values) / len(values) if values else None
