"""Where two recognitions of the same input differ, and whether one of them is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hocket.core.errors import CorpusError
from hocket.decoding import Normalisation, matched_pairs
from hocket.decoding import normalise as normalised
from hocket.recognition import hypotheses
from hocket.recognition.hypotheses import Hypothesis


@dataclass(frozen=True)
class Difference:
    """An utterance with two answers; None where one side has none."""

    id: str
    text_a: str | None
    text_b: str | None
    ref: str | None = None
    errors_a: int | None = None
    """Words wrong; None without a reference or without an answer."""
    errors_b: int | None = None


@dataclass(frozen=True)
class CompareReport:
    """Two files of hypotheses side by side."""

    num_utterances: int
    """Utterances that both have."""
    num_words: int
    """Words of the references that both were judged by."""
    wer_a: float | None
    """None without references."""
    wer_b: float | None
    test: matched_pairs.Comparison | None
    num_better_a: int
    """Utterances with fewer errors in A."""
    num_better_b: int
    normalise: Normalisation
    differences: tuple[Difference, ...]


def differing(hyps_a: Iterable[Hypothesis], hyps_b: Iterable[Hypothesis]) -> list[Difference]:
    """Utterances whose text is not the same on both sides, in the order of ``hyps_a``.

    Those that only ``hyps_b`` holds come last.
    """
    return [Difference(id, a, b) for id, a, b, _ in _pairs(hyps_a, hyps_b) if a != b]


def compare_files(path_a: Path, path_b: Path, *, normalise: Normalisation = "none") -> CompareReport:
    """Compare two files of hypotheses with references; see :mod:`~hocket.decoding.matched_pairs`.

    Raises :class:`UsageError` and :class:`CorpusError` as :func:`~hocket.recognition.hypotheses.read`
    does, and :class:`CorpusError` when the two have no utterance in common or disagree on a reference.
    """
    pairs = _pairs(hypotheses.read(path_a), hypotheses.read(path_b))
    segments: list[tuple[int, int]] = []
    differences: list[Difference] = []
    num_both = num_words = num_judged = better_a = better_b = 0
    total_a = total_b = 0
    for id, text_a, text_b, ref in pairs:
        both = text_a is not None and text_b is not None
        num_both += both
        errors_a = errors_b = None
        if text_a is not None and text_b is not None and ref is not None:
            ref_words, a, b = (normalised(text, normalise).split() for text in (ref, text_a, text_b))
            at_a, at_b = matched_pairs.word_errors(ref_words, a), matched_pairs.word_errors(ref_words, b)
            segments += matched_pairs.segments(at_a, at_b)
            errors_a, errors_b = sum(at_a), sum(at_b)
            num_words, num_judged = num_words + len(ref_words), num_judged + 1
            total_a, total_b = total_a + errors_a, total_b + errors_b
            better_a, better_b = better_a + (errors_a < errors_b), better_b + (errors_b < errors_a)
        if text_a != text_b:
            differences.append(Difference(id, text_a, text_b, ref, errors_a, errors_b))
    if not num_both:
        raise CorpusError(f"{path_a} and {path_b} have no utterance in common")
    return CompareReport(
        num_utterances=num_both,
        num_words=num_words,
        wer_a=total_a / num_words if num_words else None,
        wer_b=total_b / num_words if num_words else None,
        test=matched_pairs.compare(segments) if num_judged else None,
        num_better_a=better_a,
        num_better_b=better_b,
        normalise=normalise,
        differences=tuple(sorted(differences, key=_largest_first)),
    )


def _pairs(
    hyps_a: Iterable[Hypothesis], hyps_b: Iterable[Hypothesis]
) -> list[tuple[str, str | None, str | None, str | None]]:
    """Id, both texts, and the reference. Raises :class:`CorpusError` for two references."""
    by_id_a, by_id_b = {h.id: h for h in hyps_a}, {h.id: h for h in hyps_b}
    rows = []
    for id in {**by_id_a, **by_id_b}:
        a, b = by_id_a.get(id), by_id_b.get(id)
        refs = {h.ref for h in (a, b) if h is not None and h.ref is not None}
        if len(refs) > 1:
            raise CorpusError(
                f"{id}: two references: {' | '.join(sorted(refs))}", "Compare the same test set."
            )
        texts = [None if h is None else h.text for h in (a, b)]
        rows.append((id, texts[0], texts[1], next(iter(refs), None)))
    return rows


def _largest_first(difference: Difference) -> int:
    """Order by how far apart the two are in errors; what cannot be judged comes first."""
    if difference.errors_a is None or difference.errors_b is None:
        return -(1 << 30)
    return -abs(difference.errors_a - difference.errors_b)
