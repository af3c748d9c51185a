"""What a run has done so far: kept in every checkpoint, and the ground of its summary."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hocket.core import clock
from hocket.core.protocols import StepReport
from hocket.core.work import GlobalBatch
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP


@dataclass
class Progress:
    """Counts over all steps that led to the present weights, on any number of workers."""

    step: int = 0
    """The next optimiser step."""
    fingerprint: str = ""
    """Of the plan of batches: a run goes on only under the same one."""
    num_dropped: int = 0
    num_skipped: int = 0
    skipped_in_a_row: int = 0
    real_frames: int = 0
    padded_frames: int = 0
    imbalance_sum: float = 0.0
    bytes_sent: int = 0
    """Bytes that rank 0 put on the wire to agree with the others."""
    wall_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of rank 0 by kind."""
    wer: float | None = None
    """On the validation split, when these very weights were validated."""
    best_wer: float = math.inf

    def count(self, batch: GlobalBatch, report: StepReport) -> None:
        """One more step."""
        self.step = batch.step + 1
        self.num_dropped += report.num_dropped
        self.num_skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        self.real_frames += batch.total_frames
        self.padded_frames += batch.padded_frames
        self.bytes_sent += report.bytes_sent

    def spend(self, seconds: dict[str, float], imbalance: float) -> None:
        """The seconds of one more step, by kind, and its slowest rank over the mean rank."""
        for kind, value in seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + value
        self.imbalance_sum += imbalance

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count wall-clock time while inside."""
        self._since = clock.monotonic()
        try:
            yield
        finally:
            self._tick()

    def as_dict(self) -> dict[str, Any]:
        """Everything, up to now, as JSON takes it."""
        self._tick()
        told = {name: getattr(self, name) for name in self.__dataclass_fields__}
        told["best_wer"] = None if math.isinf(self.best_wer) else self.best_wer
        return told

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Progress:
        """What :meth:`as_dict` wrote."""
        best = told.get("best_wer")
        return cls(**{**told, "best_wer": math.inf if best is None else best})

    @property
    def audio_seconds(self) -> float:
        """Audio learnt from, repetitions counted, after speed perturbation."""
        return self.real_frames * HOP / SAMPLE_RATE

    @property
    def padding(self) -> float:
        """Part of all computed frames that was padding."""
        return 1 - self.real_frames / max(1, self.padded_frames)

    @property
    def imbalance(self) -> float:
        """Slowest over mean rank in predicted cost, in the mean over steps."""
        return self.imbalance_sum / max(1, self.step)

    def _tick(self) -> None:
        now = clock.monotonic()
        self.wall_seconds += now - getattr(self, "_since", now)
        self._since = now
