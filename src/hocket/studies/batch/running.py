"""Running one cell, and what is kept of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hocket.core import clock, events, files
from hocket.core.events import Event
from hocket.recognition.report import JobProgress
from hocket.studies.batch.grid import Cell
from hocket.studies.scale.running import run_once, score
from hocket.training.folder import RunFolder

FILE, _TRAINED = "measured.json", "trained.json"
BINS = 50
"""Points of a loss curve, over equal parts of a run's audio: smoothed alike for all sizes."""


@dataclass(frozen=True)
class Measured:
    """What a run came to."""

    fingerprint: str
    times: int
    rule: str
    seed: int
    steps: int
    batch_seconds: float
    largest_lr: float
    num_parameters: int
    audio_seconds: float
    wall_seconds: float
    took_seconds: float
    """Starting, training, recognising."""
    losses: list[float]
    """Nats per token, mean of each of :data:`BINS` equal parts of the audio."""
    noise: list[list[float]]
    """(part of the run done, noise scale in seconds of audio) of every probe step that told one."""
    dev_wer: float | None
    dev_loss: float | None
    wer: float
    wer_low: float
    wer_high: float
    errors: list[int]
    """Of each utterance of the part that was scored, in its order."""
    words: list[int]
    weights_sha256: str


def run(
    cell: Cell,
    folder: Path,
    corpus: Path,
    split: str,
    workers: int,
    on_event: Callable[[Event], None],
    progress: Callable[[JobProgress], None],
) -> Measured:
    """Train a cell from the beginning, recognise, score, and write down what came out.

    One that was trained before, and not scored, is not trained again. Raises
    :class:`~hocket.studies.scale.running.Interrupted` when a signal ended it.
    """
    where = RunFolder(folder / "run")
    training = _training_seconds(folder, cell.fingerprint)
    if training is None:
        began = clock.monotonic()
        run_once(cell.recipe, folder, workers, on_event)
        training = clock.monotonic() - began
        files.write_json(folder / _TRAINED, {"fingerprint": cell.fingerprint, "seconds": training})
    scored = score(folder, corpus, split, workers, progress)
    summary = json.loads(where.summary.read_text())
    start = next(event for event in events.read(where.events) if event["event"] == "start")
    steps = events.surviving_steps(where.events)
    measured = Measured(
        fingerprint=cell.fingerprint,
        times=cell.times,
        rule=cell.rule,
        seed=cell.seed,
        steps=len(steps),
        batch_seconds=float(start["batch_seconds"]),
        largest_lr=float(start["largest_lr"]),
        num_parameters=int(start["num_parameters"]),
        audio_seconds=float(summary["audio_seconds"]),
        wall_seconds=float(summary["wall_seconds"]),
        took_seconds=training + scored.took_seconds,
        losses=curve(steps),
        noise=[
            [(int(event["step"]) + 1) / len(steps), float(event["noise_seconds"])]
            for event in events.read(where.events)
            if event["event"] == "noise_scale" and event["noise_seconds"] is not None
        ],
        dev_wer=summary["dev_wer"],
        dev_loss=summary["dev_loss"],
        wer=scored.wer,
        wer_low=scored.wer_low,
        wer_high=scored.wer_high,
        errors=scored.errors,
        words=scored.words,
        weights_sha256=str(summary["weights_sha256"]),
    )
    shutil.rmtree(where.checkpoints, ignore_errors=True)  # the model stays
    files.write_json(folder / FILE, asdict(measured))
    return measured


def read(folder: Path, fingerprint: str) -> Measured | None:
    """What an earlier run of this very cell came to; None where there is none."""
    try:
        told: dict[str, Any] = json.loads((folder / FILE).read_text())
    except OSError:
        return None
    return Measured(**told) if told.get("fingerprint") == fingerprint else None


def _training_seconds(folder: Path, fingerprint: str) -> float | None:
    """How long this very cell was trained, if it was, to the end; None otherwise."""
    try:
        told = json.loads((folder / _TRAINED).read_text())
    except OSError:
        return None
    return float(told["seconds"]) if told["fingerprint"] == fingerprint else None


def curve(steps: list[Event]) -> list[float]:
    """The training loss over :data:`BINS` equal parts of the audio, steps counting by their audio."""
    frames = np.array([float(step["num_frames"]) for step in steps])
    losses = np.array([float(step["loss"]) for step in steps])
    fine = np.isfinite(losses)
    ends = np.concatenate([[0.0], np.cumsum(frames * fine)])
    total = np.concatenate([[0.0], np.cumsum(np.where(fine, losses, 0.0) * frames)])
    edges = np.linspace(0.0, ends[-1], BINS + 1)
    sums = np.diff(np.interp(edges, ends, total))
    found: list[float] = (sums / np.diff(edges)).tolist()
    return found


def audio_of_bins(measured: Measured) -> list[float]:
    """Seconds of audio learnt from at the middle of each part of :attr:`Measured.losses`."""
    return [measured.audio_seconds * (number + 0.5) / BINS for number in range(BINS)]
