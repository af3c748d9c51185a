"""What an importer hands over: one :class:`Item` an utterance, and the lines that were none."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hocket.core.errors import CorpusError


class Progress(Protocol):
    """Is told how long work goes."""

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        """``done`` of ``total`` of the work called ``what``; ``note`` says how it goes."""
        ...


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
    told: Mapping[str, Any] | None = field(default=None, repr=False)
    """The whole cut, where a manifest of lhotse had it."""


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


OVERSHOOT_SECONDS = 0.5
"""So long after its recording a segment may end; it is cut there."""
_TRAIN_LIKE = re.compile(r"train(?:ing)?(?:[-_.].*)?", re.IGNORECASE)
_DEV_LIKE = re.compile(r"(?:dev|val|valid|validation)(?:[-_.].*)?", re.IGNORECASE)
_TEST_LIKE = re.compile(r"(?:test|testing|eval)(?:[-_.].*)?", re.IGNORECASE)


def part(name: str) -> str:
    """The split that a part of a corpus belongs to, by its name.

    All of ``train``, ``train-clean-100``, ``train_si284`` are learnt from together: ``train``; parts
    for development likewise: ``dev``. Parts for testing keep their names: they are scored apart.
    """
    if _TRAIN_LIKE.fullmatch(name):
        return "train"
    if _DEV_LIKE.fullmatch(name):
        return "dev"
    return "test" if name.lower() == "test" else name


def names_a_part(name: str) -> bool:
    """Whether a folder's name tells a split, such as ``dev_clean``."""
    return any(kind.fullmatch(name) for kind in (_TRAIN_LIKE, _DEV_LIKE, _TEST_LIKE))


def within(first: int, num: int, whole: int, rate: int) -> int:
    """``num`` samples from ``first``, cut to the end of a recording that ends a little earlier.

    Transcripts are timed apart from the audio, and overshoot its end; Kaldi's extract-segments forgives
    as much. What ends later than :data:`OVERSHOOT_SECONDS` after it stays, and is found out when it is read.
    """
    over = first + num - whole
    return num - over if 0 < over <= OVERSHOOT_SECONDS * rate and over < num else num


def text_lines(path: Path, broken: list[LeftOut]) -> Iterator[tuple[str, str]]:
    """``FILE:LINE`` and the line, stripped, of each that is not empty.

    A line that is not UTF-8 goes to ``broken``. Raises :class:`CorpusError` when the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                where = f"{path}:{number}"
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                except UnicodeDecodeError as error:
                    broken.append(LeftOut(None, where, "broken line", f"{where}: not UTF-8: {error.reason}"))
                    continue
                if line:
                    yield where, line
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror}") from error


def refuse_mostly_broken(source: object, items: list[Item], broken: list[LeftOut], hint: str = "") -> None:
    """Raise :class:`CorpusError` with the first reason when more was left out than came in."""
    if len(broken) > len(items):
        raise CorpusError(
            f"{source}: {len(broken)} of {len(broken) + len(items)} lines cannot be used; the first:\n"
            f"  {broken[0].reason}",
            hint,
        )
