"""What a study found, as plain facts: what ``scale.json`` holds, and what the pictures need beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Cell:
    """One run: an entry of ``scale.json``, which has exactly these fields."""

    strategy: str
    """Name of the strategy: the form of the recipe's section ``sync``."""
    settings: dict[str, Any]
    """What of it was set; ``scaling`` (``strong`` or ``weak``), ``steps``, ``batch_seconds`` (of audio a
    step)."""
    workers: int
    link: str
    partition: str
    seed: int
    wer: float | None
    """On the scored split, 0 to 1 and above; None where the cell was not to be scored."""
    wer_low: float | None
    wer_high: float | None
    """95 % interval, bootstrap over utterances."""
    loss: float
    """Nats per token of training, smoothed, at the end."""
    audio_seconds: float
    """Audio learnt from."""
    wall_seconds: float
    """From the beginning of the first step to the end of the last."""
    steps_per_second: float
    """Without the first tenth of the run."""
    seconds_to_loss: float | None
    """Until the smoothed loss was at the study's target; None when it never was."""
    bytes_per_step: int
    """On the wire, of rank 0; of server and gossip both ways, in the mean over workers."""
    speedup: float | None
    """Audio a second over that of plain all-reduce on one worker."""
    scaling_efficiency: float | None
    """Speed-up by worker: 1 is perfect."""
    seconds: dict[str, float]
    """By kind, of the whole run, in the mean over workers."""


@dataclass(frozen=True)
class Details:
    """What of a cell the page shows beside its row."""

    label: str
    """The strategy with what was set."""
    is_plain: bool
    """True for whole gradients summed at every step, what all are compared with."""
    num_parameters: int
    num_steps: int
    seconds_by_rank: list[dict[str, float]]
    imbalance: float | None
    padding: float
    staleness_mean: float | None
    staleness_max: int | None
    shares: list[float]
    num_restarts: int
    times: list[float]
    losses: list[float]


@dataclass(frozen=True)
class Parity:
    """WER of a strategy against plain all-reduce on as many workers, over seeds."""

    label: str
    workers: int
    partition: str
    seeds: tuple[int, ...]
    wer: float
    """Mean over seeds."""
    wer_low: float
    wer_high: float
    """95 %, bootstrap over seeds and utterances."""
    change: float | None
    """Of the mean WER, relative to plain all-reduce with the same seeds; None for itself and without it."""
    change_low: float | None
    change_high: float | None


@dataclass(frozen=True)
class Study:
    """All of it."""

    recipe: str
    corpus: str
    split: str
    machine: dict[str, Any]
    num_planned: int
    cells: tuple[tuple[Cell, Details], ...]
    parity: tuple[Parity, ...]
    target_loss: float | None
    target_why: str
    notes: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]
    """Label and reason."""
