"""One utterance to recognise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """An utterance of the input: what to read, and what is known of it."""

    id: str
    audio: Path
    channel: int | None = None
    """The channel that is heard; None averages all."""
    start: int = 0
    """First sample, at the file's own rate."""
    num: int | None = None
    """Number of samples at the file's own rate; None for all from ``start`` on."""
    sample_rate: int | None = None
    """The file's own rate in Hz, where ``start`` and ``num`` count on it."""
    part: tuple[float, float] | None = None
    """Start and duration in seconds where the file's rate is not known yet; instead of start and num."""
    num_samples_16k: int | None = None
    """Length at 16 kHz where a prepared corpus knows it."""
    ref: str | None = None
    speaker: str | None = None
    problem: str | None = None
    """Why this line of the input is no utterance; it is listed as failed."""
