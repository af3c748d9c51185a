"""What a search finds in one utterance, before it is known whose utterance it is.

Searches make these; a recognition job carries, stitches and writes them without knowing the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word; ``start`` and ``end`` in seconds from the first sample of what was recognised."""

    text: str
    start: float
    end: float
    confidence: float | None = None
    """Between 0 and 1; None where the search does not say."""


@dataclass(frozen=True)
class Alternative:
    """One entry of an N-best list; ``score`` is the search's own, larger is better."""

    text: str
    score: float


@dataclass(frozen=True)
class Transcript:
    """The words of one utterance."""

    text: str
    words: tuple[Word, ...] = ()
    """The words of ``text`` in order; empty where no times were asked for."""
    confidence: float | None = None
    """Of the whole utterance, between 0 and 1."""
    alternatives: tuple[Alternative, ...] = ()
    """The best first, ``text`` itself included; empty where no N-best list was asked for."""


def stitch(pieces: Sequence[tuple[float, float, Transcript]]) -> Transcript:
    """One transcript of the pieces of a recording, each with its start and duration in seconds.

    Times are moved by the start of their piece. The confidence is the mean over pieces, weighted by
    duration, where all of them have one. N-best lists of pieces make none of the whole.
    """
    if len(pieces) == 1 and pieces[0][0] == 0.0:
        return pieces[0][2]
    words = [
        replace(word, start=round(start + word.start, 3), end=round(start + word.end, 3))
        for start, _, piece in pieces
        for word in piece.words
    ]
    weighted = [(duration, piece.confidence) for _, duration, piece in pieces if piece.confidence is not None]
    total = sum(duration for duration, _ in weighted)
    whole = len(weighted) == len(pieces) and total > 0
    return Transcript(
        text=" ".join(piece.text for _, _, piece in pieces if piece.text),
        words=tuple(words),
        confidence=sum(duration * value for duration, value in weighted) / total if whole else None,
    )
