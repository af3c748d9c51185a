"""What an importer hands over: one :class:`Item` an utterance, and the lines that were none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


@dataclass(frozen=True)
class Item:
    """One utterance as its source tells it, not yet looked at."""

    id: str
    audio: Path
    text: str
    where: str
    """File and line that it comes from, for messages."""
    speaker: str | None = None
    split: str | None = None
    channel: int | None = None
    start_seconds: float | None = None
    """None: from the beginning."""
    duration_seconds: float | None = None
    """With ``start_seconds`` the part that is heard; without, a claim about the whole file."""


@dataclass(frozen=True)
class LeftOut:
    """An utterance, or a line that was none, that the corpus goes without."""

    id: str | None
    where: str
    kind: str
    """A few words that many share, for counting."""
    reason: str
    split: str | None = None


@dataclass(frozen=True)
class Imported:
    """All that a source holds."""

    name: str
    items: list[Item]
    broken: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ImportContext:
    """What an importer may use."""

    audio_folder: Path
    """Where an importer that makes audio writes it; it becomes OUT/audio."""
    seed: int
    progress: Progress


class Importer(Protocol):
    """A format of corpora."""

    def detect(self, source: str) -> bool:
        """Whether ``source``, as the user wrote it, looks like this format."""
        ...

    def read(self, source: str, context: ImportContext) -> Imported:
        """Read the source. Raises :class:`CorpusError` when most of it cannot be read."""
        ...
