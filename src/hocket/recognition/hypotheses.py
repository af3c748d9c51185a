"""Hypotheses and failures, and the JSON lines they are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.core.errors import CorpusError, UsageError
from hocket.core.transcript import Alternative, Transcript, Word


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised in one utterance. ``duration`` in seconds."""

    id: str
    text: str
    duration: float | None = None
    ref: str | None = None
    speaker: str | None = None
    words: tuple[Word, ...] = ()
    """With times in seconds from the start of the audio, where they were asked for."""
    confidence: float | None = None
    alternatives: tuple[Alternative, ...] = ()

    @staticmethod
    def of(
        id: str,
        transcript: Transcript,
        duration: float | None = None,
        ref: str | None = None,
        speaker: str | None = None,
    ) -> Hypothesis:
        """What a search found, with a name."""
        return Hypothesis(
            *(id, transcript.text, duration, ref, speaker),
            words=transcript.words,
            confidence=transcript.confidence,
            alternatives=transcript.alternatives,
        )


@dataclass(frozen=True)
class Failure:
    """An utterance without a hypothesis, and why."""

    id: str
    audio: str
    reason: str


def failures_path(out: Path) -> Path:
    """Where the failures of ``hyps.jsonl`` are listed: ``hyps.failed.jsonl`` beside it."""
    return out.with_name(f"{out.stem}.failed.jsonl")


def read(path: Path) -> list[Hypothesis]:
    """The hypotheses of a file, in its order.

    Raises :class:`UsageError` when it cannot be read, and :class:`CorpusError` naming file and line
    when a line is broken or an id comes twice.
    """
    hypotheses = []
    seen: dict[str, int] = {}
    for number, record in _records(path):
        hypothesis = _hypothesis(record, f"{path}:{number}")
        if hypothesis.id in seen:
            raise CorpusError(
                f"{path}:{number}: the id {hypothesis.id!r} came before, on line {seen[hypothesis.id]}",
                "Every utterance is answered once: was the file put together from several?",
            )
        seen[hypothesis.id] = number
        hypotheses.append(hypothesis)
    return hypotheses


def to_line(answer: Hypothesis | Failure) -> bytes:
    """One line of JSON; what is not known is left out."""
    fields = {name: value for name, value in asdict(answer).items() if value not in (None, ())}
    try:
        return (json.dumps(fields, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # a file name that is no UTF-8: as escapes, which lead back to it
        return (json.dumps(fields) + "\n").encode()


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot read the hypotheses: {error.strerror}") from error
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                f"{path}:{number}: not JSON: {error}", "Each line is one JSON object."
            ) from error
        if not isinstance(record, dict):
            raise CorpusError(f"{path}:{number}: not a JSON object", "Each line is one JSON object.")
        yield number, record


def _hypothesis(record: dict[str, Any], where: str) -> Hypothesis:
    for name in ("id", "text"):
        if not isinstance(record.get(name), str):
            raise CorpusError(
                f"{where}: {name!r} is missing or no text", "A hypothesis has an id and a text."
            )
    for name in ("ref", "speaker"):
        if not isinstance(record.get(name), str | None):
            raise CorpusError(f"{where}: {name!r} is no text: {record[name]!r}")
    for name in ("duration", "confidence"):
        number = record.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            raise CorpusError(f"{where}: {name!r} is no number: {number!r}")
    try:
        words = tuple(Word(**word) for word in record.get("words", ()))
        alternatives = tuple(Alternative(**entry) for entry in record.get("alternatives", ()))
    except TypeError as error:
        raise CorpusError(f"{where}: 'words' or 'alternatives' is not as hocket writes it: {error}") from None
    return Hypothesis(
        id=record["id"],
        text=record["text"],
        duration=record.get("duration"),
        ref=record.get("ref"),
        speaker=record.get("speaker"),
        words=words,
        confidence=record.get("confidence"),
        alternatives=alternatives,
    )
