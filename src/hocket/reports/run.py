"""What a run folder tells about its run, also while the run is still going."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.core import clock, events
from hocket.core.errors import RunError
from hocket.core.events import Event
from hocket.corpus.storage.meter import hit_rate
from hocket.reports import noise
from hocket.reports.axes import number, percent

SECONDS_PER_FRAME = 0.01
KINDS = ("compute", "communication", "wait", "data", "optimiser")
"""Where the time of a step goes, in the order in which reports show it."""

_OF_EVENTS = ("event", "attempt", "time")
"""What every event has."""

_WINDOW = 50
_LOSS_WINDOW = 20
_SILENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Restart:
    """Workers were started again: why, and which rank was the cause where that is known."""

    attempt: int
    reason: str
    rank: int | None


@dataclass(frozen=True)
class RunInfo:
    """The state of a run. Numbers that the run has not written yet are None.

    ``padding`` is the share of padded frames that hold no speech (0 to 1); ``imbalance`` is the
    slowest rank's work over the mean of all ranks (1 is perfect); rates are of the last steps.
    """

    run: str
    state: str
    """``running``, ``finished``, ``stopped`` (asked to, before its last step) or ``silent``."""
    workers: int | None
    layout: str | None
    precision: str | None
    allocator: str | None
    attempts: int
    """How often workers were started."""
    restarts: tuple[Restart, ...]
    steps_done: int
    steps_total: int | None
    epoch: int | None
    loss: float | None
    """Nats per token, mean of the last steps."""
    grad_norm: float | None
    lr: float | None
    steps_skipped: int
    dev_loss: float | None
    dev_wer: float | None
    best_dev_wer: float | None
    wer: float | None
    steps_per_second: float | None
    audio_per_second: float | None
    """Seconds of speech learnt from, per second."""
    seconds_left: float | None
    seconds: dict[str, float]
    """Seconds of rank 0 by kind, over all steps that count."""
    matrix_rate: float | None
    """Operations a second that plain matrix products reach on the workers of the last attempt."""
    matrix_share: float | None
    """Operations a second of training as a share of the matrix rate, over all steps that count."""
    matrix_share_computing: float | None
    """The same in the seconds of rank 0 that went into ``compute`` alone."""
    rank_seconds: tuple[float, ...]
    """Seconds that each rank worked for a step, mean of the last steps."""
    slowest_rank: int | None
    padding: float | None
    imbalance: float | None
    last_checkpoint: int | None
    """Steps done when it was taken."""
    checkpoints_failed: int
    stopped_early: str | None
    """Why the run ended before its last step, when validations brought nothing better."""
    corpora: dict[str, dict[str, float]]
    """Where several are mixed, of each: ``weight``, ``hours``, ``share`` of the audio of an epoch,
    ``audio_seconds`` learnt from so far, and ``dev_wer`` of the last validation."""
    storage: dict[str, float]
    """Of corpora in shards, what rank 0's storage did over all steps that count: sums of the steps'
    ``storage``, its ``hit_rate``, and the median over steps of ``read_ms_p50``. Empty without shards."""
    model_step: int | None
    """Steps done when the weights were what the model is, once the run has ended."""
    noise_scale: dict[str, Any] | None
    """The last ``noise_scale`` event."""
    no_noise_scale: str | None
    """Why there is none."""
    suggested_growth: list[dict[str, float | int]]
    """A ``batch.growth`` that would follow the noise scale; empty where the batch suits it throughout."""
    seconds_since_last_event: float | None
    weights_sha256: str | None
    forecast: Forecast | None = None
    """What the planner says of a step beside what it took, where this machine is known to it."""


@dataclass(frozen=True)
class Forecast:
    """A step as it was said to be and as it was, in seconds."""

    said: float
    measured: float
    """In the median."""
    seconds: dict[str, float]
    """What was said, by kind: those of a run, and those of a plan alone."""


@dataclass(frozen=True)
class RunRecord:
    """All that reports read of a run folder: its events by kind, and its summary if it ended."""

    run: Path
    steps: list[Event]
    """Surviving steps, by step."""
    others: list[Event]
    """All events that are no steps, in the order written."""
    last_time: float | None
    summary: dict[str, Any]
    forecast: Forecast | None = None

    def of_kind(self, kind: str) -> list[Event]:
        """Events of one kind, in the order written."""
        return [event for event in self.others if event.get("event") == kind]


def read(run: Path) -> RunRecord:
    """Read the events and the summary of a run folder.

    Raises :class:`RunError` when the folder holds no run.
    """
    path = run / "events.jsonl"
    if not path.exists():
        raise RunError(
            f"{run}: no run here: events.jsonl is missing",
            "Name the folder that `hocket train --run` wrote, or that it printed.",
        )
    others: list[Event] = []
    last_time = None
    for event in events.read(path):
        last_time = float(event["time"]) if "time" in event else last_time
        if event.get("event") != "step":
            others.append(event)
    steps, forecast = events.surviving_steps(path), run / "forecast.json"
    told = _read_json(forecast) if forecast.exists() else None
    found = None if told is None else Forecast(told["said"], told["measured"], told["seconds"])
    return RunRecord(run, steps, others, last_time, _read_summary(run), found)


def describe(run: Path, now: clock.Clock = clock.wall) -> RunInfo:
    """What a run did so far: progress, rate, time left, slowest rank, restarts.

    Raises :class:`RunError` when the folder holds no run.
    """
    return summarize(read(run), now())


def summarize(record: RunRecord, now: float) -> RunInfo:
    """:func:`describe` for a record that was read already; ``now`` in seconds since the epoch."""
    starts = record.of_kind("start")
    validations = record.of_kind("validation")
    steps, summary = record.steps, record.summary
    start: Event = starts[-1] if starts else {}
    last: Event = steps[-1] if steps else {}
    done = int(last["step"]) + 1 if last else int(start.get("step", 0))
    total = _maybe_int(start.get("steps"))
    taken = [step for step in steps if not step.get("skipped")]
    steps_per_second, audio_per_second = _rates(steps)
    state = _state(record, now, steps_per_second)
    ranks = _busy(steps)
    wers = [v["wer"] for v in validations if v.get("wer") is not None]
    noises = surviving(record.of_kind("noise_scale"), starts)
    per_epoch = start.get("steps_per_epoch")
    end = total / int(per_epoch) if total is not None and per_epoch else None
    return RunInfo(
        run=str(record.run),
        state=state,
        workers=_maybe_int(start.get("workers")),
        layout=_maybe_str(start.get("layout", summary.get("layout"))),
        precision=_maybe_str(start.get("precision")),
        allocator=_maybe_str(start.get("machine", {}).get("allocator")),
        attempts=len(starts),
        restarts=tuple(
            Restart(int(e.get("attempt", 0)), str(e.get("reason", "")), _maybe_int(e.get("rank")))
            for e in record.of_kind("restart")
        ),
        steps_done=done,
        steps_total=total,
        epoch=_maybe_int(last.get("epoch")),
        loss=_mean([float(step["loss"]) for step in taken[-_LOSS_WINDOW:]]),
        grad_norm=_maybe_float(taken[-1].get("grad_norm")) if taken else None,
        lr=_maybe_float(last.get("lr")),
        steps_skipped=len(steps) - len(taken),
        dev_loss=_maybe_float(validations[-1].get("loss")) if validations else None,
        dev_wer=_maybe_float(wers[-1]) if wers else _maybe_float(summary.get("dev_wer")),
        best_dev_wer=min(map(float, wers)) if wers else None,
        wer=_maybe_float(summary.get("wer")),
        steps_per_second=steps_per_second,
        audio_per_second=_maybe_float(summary.get("audio_per_second", audio_per_second)),
        seconds_left=_seconds_left(state, done, total, steps_per_second),
        seconds=seconds_by_kind(steps),
        matrix_rate=_maybe_float(start.get("matrix_rate")),
        matrix_share=_matrix_share(starts, steps, KINDS),
        matrix_share_computing=_matrix_share(starts, steps, ("compute",)),
        rank_seconds=ranks,
        slowest_rank=ranks.index(max(ranks)) if ranks else None,
        padding=_weighted(steps, "padding"),
        imbalance=_weighted(steps, "imbalance"),
        last_checkpoint=_last_step(record.of_kind("checkpoint")),
        checkpoints_failed=len(record.of_kind("checkpoint_failed")),
        stopped_early=why_early(record.of_kind("early_stop")[-1]) if summary.get("stopped_early") else None,
        corpora=_corpora(start, steps, validations),
        storage=_storage(steps),
        model_step=_maybe_int(summary.get("model_step")),
        noise_scale={name: noises[-1][name] for name in noises[-1] if name not in _OF_EVENTS}
        if noises
        else None,
        no_noise_scale=_maybe_str(start.get("no_noise_scale")),
        suggested_growth=noise.suggested_growth(noises, start, end),
        seconds_since_last_event=None if record.last_time is None else max(0.0, now - record.last_time),
        weights_sha256=_maybe_str(summary.get("weights_sha256")),
        forecast=record.forecast,
    )


def surviving(found: Sequence[Event], starts: Sequence[Event]) -> list[Event]:
    """Of events with a step the last for each, without those that a later start went back before."""
    kept: dict[int, Event] = {}
    for event in found:
        kept[int(event["step"])] = event
    firsts = {int(start["attempt"]): int(start.get("step", 0)) for start in starts if "attempt" in start}
    return [
        event
        for step, event in sorted(kept.items())
        if all(first > step for attempt, first in firsts.items() if attempt > int(event.get("attempt", 0)))
    ]


def _corpora(
    start: Event, steps: Sequence[Event], validations: Sequence[Event]
) -> dict[str, dict[str, float]]:
    found = {name: dict(told) for name, told in start.get("corpora", {}).items()}
    for name, told in found.items():
        frames = sum(int(step.get("frames_by_corpus", {}).get(name, 0)) for step in steps)
        told["audio_seconds"] = frames * SECONDS_PER_FRAME
        scores = validations[-1].get("by_corpus", {}).get(name) if validations else None
        if scores is not None:
            told["dev_wer"] = float(scores["wer"])
    return found


def _storage(steps: Sequence[Event]) -> dict[str, float]:
    told = [step["storage"] for step in steps if "storage" in step]
    total: dict[str, float] = {}
    for one in told:
        for name, value in one.items():
            if name not in ("hit_rate", "read_ms_p50", "read_ms_p99"):
                total[name] = total.get(name, 0) + value
    if "needed_bytes" in total:
        total["hit_rate"] = hit_rate(total["needed_bytes"], total.get("store_bytes", 0))
    latencies = sorted(one["read_ms_p50"] for one in told if "read_ms_p50" in one)
    if latencies:
        total["read_ms_p50"] = latencies[len(latencies) // 2]
    return total


def why_early(stop: Event) -> str:
    """An ``early_stop`` event in words."""
    metric = "WER" if stop["metric"] == "wer" else "loss"
    best = percent(stop["best"]) if stop["metric"] == "wer" else number(stop["best"])
    return (
        f"{stop['num_in_vain']} validations brought no better {metric} than {best}, "
        f"reached after step {stop['best_step']:,}"
    )


def seconds_by_kind(steps: Sequence[Event]) -> dict[str, float]:
    """Seconds of rank 0 by kind, summed over steps; the known kinds first, in their order."""
    total: dict[str, float] = {}
    for step in steps:
        for kind, seconds in step.get("seconds", {}).items():
            total[kind] = total.get(kind, 0.0) + float(seconds)
    known = [kind for kind in KINDS if kind in total]
    return {kind: total[kind] for kind in [*known, *sorted(set(total) - set(known))]}


def _matrix_share(starts: Sequence[Event], steps: Sequence[Event], kinds: Sequence[str]) -> float | None:
    """Operations of steps over what the matrix rate of their attempt allowed in the seconds of ``kinds``."""
    rates = {start.get("attempt"): float(start["matrix_rate"]) for start in starts if "matrix_rate" in start}
    counted = [step for step in steps if "flops" in step and step.get("attempt") in rates]
    possible = sum(
        rates[step["attempt"]] * sum(float(step["seconds"].get(kind, 0.0)) for kind in kinds)
        for step in counted
    )
    return sum(float(step["flops"]) for step in counted) / possible if possible else None


def _read_summary(run: Path) -> dict[str, Any]:
    path = run / "summary.json"
    return _read_json(path) if path.exists() else {}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(
            f"{path}: not JSON: {error}", "The run is whole without it: delete the file."
        ) from error
    if not isinstance(summary, dict):
        raise RunError(f"{path}: not a JSON object", "The run is whole without it: delete the file.")
    return summary


def _state(record: RunRecord, now: float, rate: float | None) -> str:
    ends = [event for event in record.others if event.get("event") in ("start", "end")]
    if ends and ends[-1]["event"] == "end":
        return "finished" if ends[-1].get("finished", True) else "stopped"
    patience = max(_SILENCE_SECONDS, 20.0 / rate if rate else 0.0)
    if record.last_time is not None and now - record.last_time > patience:
        return "silent"
    return "running"


def _rates(steps: Sequence[Event]) -> tuple[float | None, float | None]:
    """Steps and seconds of speech per second, over the last steps of one attempt."""
    recent = _recent(steps)
    if len(recent) < 2:
        return None, None
    elapsed = float(recent[-1]["time"]) - float(recent[0]["time"])
    if elapsed <= 0:
        return None, None
    frames = sum(int(step.get("num_frames", 0)) for step in recent[1:])
    return (len(recent) - 1) / elapsed, frames * SECONDS_PER_FRAME / elapsed


def _recent(steps: Sequence[Event]) -> list[Event]:
    """The last steps of the last attempt: earlier ones may be of another number of workers."""
    return [step for step in steps[-_WINDOW:] if step.get("attempt") == steps[-1].get("attempt")]


def _busy(steps: Sequence[Event]) -> tuple[float, ...]:
    busy = [step["busy"] for step in _recent(steps) if step.get("busy")]
    return tuple(sum(map(float, of_rank)) / len(busy) for of_rank in zip(*busy, strict=True))


def _seconds_left(state: str, done: int, total: int | None, rate: float | None) -> float | None:
    if state == "finished":
        return 0.0
    if state != "running" or total is None or rate is None:
        return None
    return (total - done) / rate


def _weighted(steps: Sequence[Event], field: str) -> float | None:
    """Mean of a field over steps, each counting as much as it has frames."""
    pairs = [
        (float(step[field]), float(step.get("num_frames", 1)))
        for step in steps
        if step.get(field) is not None and math.isfinite(float(step[field]))
    ]
    weight = sum(w for _, w in pairs)
    return sum(value * w for value, w in pairs) / weight if weight else None


def _last_step(found: Sequence[Event]) -> int | None:
    return int(found[-1]["step"]) if found else None


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else None


def _maybe_float(value: Any) -> float | None:
    return None if value is None else float(value)


def _maybe_int(value: Any) -> int | None:
    return None if value is None else int(value)


def _maybe_str(value: Any) -> str | None:
    return None if value is None else str(value)
