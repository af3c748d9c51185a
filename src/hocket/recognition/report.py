"""What a recognition job tells: while it runs, and when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WorkerState:
    """A worker of a running job; ``held`` are the numbers of its micro-batches, the oldest first."""

    slot: int
    pid: int
    ready: bool
    held: tuple[int, ...]


@dataclass(frozen=True)
class JobProgress:
    """How far a job is, in seconds of audio.

    Told when a worker is ready, whenever who holds what changes, and just before a micro-batch is
    sent to the worker that now holds it.
    """

    num_done: int
    """Pieces answered in this run."""
    num_failed: int
    num_earlier: int
    """Pieces that need no work: answered in an earlier run, or impossible to read."""
    num_utterances: int
    """All pieces; where no audio is long, a piece is an utterance."""
    audio_seconds_done: float
    audio_seconds: float
    elapsed: float
    """Seconds since the workers were started."""
    workers: tuple[WorkerState, ...]


Observer = Callable[[JobProgress], None]


@dataclass(frozen=True)
class WorkerReport:
    """What one worker process did, in seconds of its time.

    Reading runs beside computing in a thread of its own: it is hidden as far as ``wait_seconds``,
    which computing spent waiting for it (or for work), does not show it.
    """

    slot: int
    pid: int
    startup_seconds: float
    """From the start of the process until its model was loaded."""
    import_seconds: float
    load_seconds: float
    read_seconds: float
    wait_seconds: float
    encode_seconds: float
    decode_seconds: float
    num_micro_batches: int
    num_utterances: int
    lost: str | None
    """How it ended, if before its work was done."""

    @property
    def busy_seconds(self) -> float:
        """Seconds in the encoder and the decoder."""
        return self.encode_seconds + self.decode_seconds


@dataclass(frozen=True)
class JobReport:
    """The whole job. Every utterance of the input is in ``num_utterances`` or in ``num_failed``."""

    num_utterances: int
    """Utterances with a hypothesis."""
    num_failed: int
    num_pieces: int
    """Pieces that the audio was recognised in: more than utterances where some are long."""
    num_earlier: int
    """Pieces whose answers an earlier run of the job had left in the journal."""
    audio_seconds: float
    """Audio of the utterances with a hypothesis."""
    wall_seconds: float
    startup_seconds: float
    """Until the first worker was ready; 0 where none was needed."""
    rtfx: float
    """Seconds of audio answered in this run per second of it, start-up included."""
    rtfx_steady: float
    """The same from the moment the first worker was ready."""
    workers: int
    """Worker processes at a time: never more than micro-batches."""
    num_micro_batches: int
    padding: float
    """Share of padding among the frames computed."""
    imbalance: float
    """Busy seconds of the busiest place over their mean."""
    restarts: int
    losses: tuple[str, ...]
    """How each lost worker ended."""
    per_worker: tuple[WorkerReport, ...]
    device: str
    precision: str
    batch_seconds: float
    tuning: str | None
    """How workers and batch were chosen, where that was left to the job."""
    out: tuple[Path, ...]
    journal: Path
    failed: Path | None
    """The list of failures, if there are any."""
