"""What a run has done so far: kept in every checkpoint, and the ground of its summary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from hocket.core import clock
from hocket.core.protocols import StepReport
from hocket.core.work import GlobalBatch
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.training.noise_scale import NoiseScale
from hocket.training.recipe import ValidationSettings
from hocket.training.stopping import Validated
from hocket.training.validation import ValidationReport


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
    frames_by_corpus: dict[str, int] = field(default_factory=dict)
    """Of real frames, where several corpora are mixed."""
    padded_frames: int = 0
    flops: float = 0.0
    """Operations of all steps on all workers, padding included."""
    possible_flops: float = 0.0
    """Operations that plain matrix products would have done on the same workers in the same seconds."""
    imbalance_sum: float = 0.0
    bytes_sent: int = 0
    """Bytes that rank 0 put on the wire to agree with the others."""
    wall_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds of rank 0 by kind."""
    wer: float | None = None
    """On the validation split, when these very weights were validated."""
    dev_loss: float | None = None
    """The same in nats per token."""
    dev_by_corpus: dict[str, dict[str, float]] = field(default_factory=dict)
    """Loss, WER and CER of each corpus's part of the split, where several are mixed."""
    metric: float | None = None
    """The one of the two that the best is the best by."""
    validated: Validated = field(default_factory=Validated)
    noise: NoiseScale = field(default_factory=NoiseScale)

    def count(self, batch: GlobalBatch, report: StepReport) -> None:
        """One more step."""
        self.step = batch.step + 1
        self.num_dropped += report.num_dropped
        self.num_skipped += report.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if report.skipped else 0
        self.real_frames += batch.total_frames
        self.padded_frames += batch.padded_frames
        self.bytes_sent += report.bytes_sent

    def count_corpora(self, frames: dict[str, int]) -> None:
        """One more step's frames by corpus."""
        for name, value in frames.items():
            self.frames_by_corpus[name] = self.frames_by_corpus.get(name, 0) + value

    def spend(self, seconds: dict[str, float], imbalance: float, flops: float, matrix_rate: float) -> None:
        """The seconds of one more step, by kind, its slowest rank over the mean rank, its operations."""
        for kind, value in seconds.items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + value
        self.imbalance_sum += imbalance
        self.flops += flops
        self.possible_flops += sum(seconds.values()) * matrix_rate

    def forget_validation(self) -> None:
        """The weights have moved on since the last one."""
        self.wer = self.dev_loss = self.metric = None
        self.dev_by_corpus = {}

    def take_validation(self, found: ValidationReport, settings: ValidationSettings) -> bool:
        """The weights as they are were validated; True when they are the best so far."""
        self.wer, self.dev_loss = found.wer, found.loss
        self.dev_by_corpus = {name: asdict(part) for name, part in found.by_corpus.items()}
        self.metric = found.wer if settings.metric == "wer" else found.loss
        return self.validated.look(self.step, self.metric, settings.min_delta)

    def take_average(self, found: ValidationReport) -> None:
        """Another model than that of the last step comes out, and this is how it did."""
        self.wer, self.dev_loss = found.wer, found.loss
        self.dev_by_corpus = {name: asdict(part) for name, part in found.by_corpus.items()}

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
        return asdict(self)

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Progress:
        """What :meth:`as_dict` wrote."""
        parts = {"validated": Validated(**told["validated"]), "noise": NoiseScale(**told["noise"])}
        return cls(**{**told, **parts})

    @property
    def audio_seconds(self) -> float:
        """Audio learnt from, repetitions counted, after speed perturbation."""
        return self.real_frames * HOP / SAMPLE_RATE

    @property
    def audio_seconds_by_corpus(self) -> dict[str, float]:
        """The same of each corpus, where several are mixed."""
        return {name: frames * HOP / SAMPLE_RATE for name, frames in self.frames_by_corpus.items()}

    @property
    def padding(self) -> float:
        """Part of all computed frames that was padding."""
        return 1 - self.real_frames / max(1, self.padded_frames)

    @property
    def matrix_share(self) -> float:
        """Operations a second as a share of the machine's matrix rate, over all steps."""
        return self.flops / self.possible_flops if self.possible_flops else 0.0

    @property
    def imbalance(self) -> float:
        """Slowest over mean rank in predicted cost, in the mean over steps."""
        return self.imbalance_sum / max(1, self.step)

    def _tick(self) -> None:
        now = clock.monotonic()
        self.wall_seconds += now - getattr(self, "_since", now)
        self._since = now
