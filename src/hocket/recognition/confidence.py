"""How well the confidences of a scored recognition hold, and a map that makes them hold better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from hocket.core import files
from hocket.decoding import Normalisation, calibration
from hocket.decoding import normalise as normalised
from hocket.decoding.breakdown import correct_words
from hocket.decoding.calibration import Calibration, Reliability
from hocket.recognition.hypotheses import Hypothesis


@dataclass(frozen=True)
class ConfidenceReport:
    """Reliability of the confidences as they are; and, where it was fitted, after calibration.

    The second is measured on the words it was fitted to: for a fair figure recognise other speech
    with the calibration and score that.
    """

    before: Reliability
    calibration: Calibration | None
    after: Reliability | None


def report(
    found: Iterable[Hypothesis], *, normalise: Normalisation = "none", fit: bool = False
) -> ConfidenceReport:
    """Judge the words of all hypotheses with confidences and a reference.

    Raises :class:`CorpusError` where there are none, or where all of them are right.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    for hypothesis in found:
        if hypothesis.ref is None:
            continue
        # A word may vanish or part in normalisation: then it is judged by all that became of it.
        pieces = [normalised(word.text, normalise).split() for word in hypothesis.words]
        right = correct_words(
            normalised(hypothesis.ref, normalise).split(), [part for parts in pieces for part in parts]
        )
        place = 0
        for word, parts in zip(hypothesis.words, pieces, strict=True):
            if parts and word.confidence is not None:
                confidences.append(word.confidence)
                correct.append(all(right[place : place + len(parts)]))
            place += len(parts)
    before = calibration.reliability(confidences, correct)
    if not fit:
        return ConfidenceReport(before, None, None)
    fitted = calibration.fit(confidences, correct)
    after = calibration.reliability([fitted(value) for value in confidences], correct)
    return ConfidenceReport(before, fitted, after)


def write(path: Path, report: ConfidenceReport) -> None:
    """Write a fitted calibration, as ``hocket recognize --calibration`` takes it."""
    if report.calibration is None:
        raise ValueError("nothing was fitted")
    facts = {"num_words": report.before.num_words, "ece_before": report.before.ece}
    files.write_json(path, {**asdict(report.calibration), **facts})
