"""What the coordinator of a job and its workers say to each other.

They travel pickled over a socket pair that only the two of them hold.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hocket.core.transcript import Transcript
from hocket.recognition.items import Item
from hocket.recognition.search import SearchSettings


@dataclass(frozen=True)
class Start:
    """To a new worker: what to load."""

    model: str
    """A run, a model folder, an exported one, or ``hf:FOLDER``."""
    slot: int
    """Number of the worker's place; chooses the GPU where there are several."""
    device: str
    precision: str
    threads: int
    cores: tuple[int, ...] = ()
    """Where the process is to run; empty leaves it to the system."""
    readers: int = 1
    """Threads that read audio, at most."""
    search: SearchSettings = field(default_factory=SearchSettings)
    sp: int = 1
    """Processes that are this worker, each with a part of the frames."""


@dataclass(frozen=True)
class Lease:
    """To a worker: a micro-batch. ``num_samples`` (16 kHz) of each item as planned."""

    number: int
    num_frames: int
    """Frames of 10 ms to pad to."""
    items: tuple[Item, ...]
    num_samples: tuple[int, ...]


@dataclass(frozen=True)
class Ready:
    """From a worker: the model is loaded."""

    import_seconds: float
    load_seconds: float


@dataclass(frozen=True)
class Begun:
    """From a worker: audio is read, computing begins. A sign of life."""

    number: int


@dataclass(frozen=True)
class Done:
    """From a worker: the answers of a micro-batch, in the order of its items."""

    number: int
    transcripts: tuple[Transcript | None, ...]
    reasons: tuple[str, ...]
    """Why there is no transcript; empty where there is one."""
    read_seconds: float
    wait_seconds: float
    """Seconds that computing waited for this micro-batch's audio or for the lease itself."""
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class Refused:
    """From a worker: an error that the user must act on; it would hit every worker alike."""

    message: str
    hint: str
    exit_code: int


@dataclass(frozen=True)
class Crashed:
    """From a worker: a programming error, as a traceback."""

    traceback: str
