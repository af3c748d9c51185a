"""Scoring a file of hypotheses against the references that ride along in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from hocket.core.errors import CorpusError
from hocket.decoding import Normalisation, wer
from hocket.decoding.breakdown import Breakdown, break_down
from hocket.recognition import hypotheses
from hocket.recognition.hypotheses import Hypothesis


def score(
    found: Iterable[Hypothesis],
    *,
    by: wer.Unit = "utterance",
    normalise: Normalisation = "none",
    num_worst: int = 10,
) -> wer.ScoreReport:
    """WER and CER with an interval; see :func:`hocket.decoding.wer.score`."""
    scored = (wer.Scored(h.id, h.text, h.ref, h.speaker) for h in found)
    return wer.score(scored, by=by, normalise=normalise, num_worst=num_worst)


def break_down_file(path: Path, *, normalise: Normalisation = "none") -> Breakdown:
    """Errors of ``hyps.jsonl`` by word and by speaker. Raises what reading it raises."""
    return break_down((wer.Scored(h.id, h.text, h.ref, h.speaker) for h in hypotheses.read(path)), normalise)


def score_file(
    path: Path, *, by: wer.Unit = "utterance", normalise: Normalisation = "none", num_worst: int = 10
) -> wer.ScoreReport:
    """Score ``hyps.jsonl``.

    Raises :class:`UsageError` when the file cannot be read or the interval cannot be drawn as asked,
    and :class:`CorpusError` naming file and line for a broken line, or the file when nothing in it
    can be scored.
    """
    found = hypotheses.read(path)
    try:
        return score(found, by=by, normalise=normalise, num_worst=num_worst)
    except CorpusError as error:
        raise CorpusError(f"{path}: {error.message}", error.hint) from None
