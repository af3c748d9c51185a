"""Word and character error rates, with an interval.

Words are what stands between white space, compared as they are, so that case and punctuation count;
or after :func:`~hocket.decoding.normalise.normalise` on both sides. The character error rate counts
the characters of the words joined by single spaces.

The interval is a bootstrap over utterances or over speakers (whose utterances err together, so that
the interval is wider and more honest): Bisani & Ney, "Bootstrap estimates for confidence intervals
in ASR performance evaluation", ICASSP 2004.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein

from hocket.core import seeds
from hocket.core.errors import CorpusError, UsageError
from hocket.decoding.normalise import Normalisation
from hocket.decoding.normalise import normalise as normalised

I64 = npt.NDArray[np.int64]
Unit = Literal["utterance", "speaker"]

_DRAWS_AT_ONCE = 1 << 22
"""Random draws held in memory at a time: 32 MiB of int64."""


@dataclass(frozen=True)
class Scored:
    """What is compared: a hypothesis and, where known, its reference."""

    id: str
    hyp: str
    ref: str | None
    speaker: str | None = None


@dataclass(frozen=True)
class Edits:
    """A cheapest way of turning a reference into a hypothesis."""

    insertions: int
    deletions: int
    substitutions: int

    @property
    def errors(self) -> int:
        """All three together: the Levenshtein distance."""
        return self.insertions + self.deletions + self.substitutions


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance that went wrong, for a list of the worst."""

    id: str
    errors: int
    num_words: int
    ref: str
    hyp: str


@dataclass(frozen=True)
class ScoreReport:
    """Rates are fractions (0.18 is 18 %) over the whole set; they may exceed 1."""

    wer: float
    wer_low: float
    wer_high: float
    cer: float
    num_words: int
    num_chars: int
    insertions: int
    deletions: int
    substitutions: int
    char_errors: int
    num_utterances: int
    """Utterances that were scored: those with a reference, also an empty one."""
    num_correct: int
    """Scored utterances without any error."""
    num_without_ref: int
    num_empty_refs: int
    """References without words: every hypothesised word there is an insertion."""
    by: Unit
    """What the bootstrap drew."""
    num_drawn: int
    """How many of them there are: utterances or speakers."""
    confidence: float
    normalise: Normalisation
    """What was done to references and hypotheses before they were compared."""
    worst: tuple[UtteranceErrors, ...]
    """The utterances with the most errors, worst first; their texts as they were compared."""


def edits(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> Edits:
    """The edits of a cheapest alignment; of equally cheap ones, always the same."""
    numbers: dict[Hashable, int] = {}
    ref_ids = [numbers.setdefault(item, len(numbers)) for item in ref]
    hyp_ids = [numbers.setdefault(item, len(numbers)) for item in hyp]
    counts = {"insert": 0, "delete": 0, "replace": 0}
    for op in Levenshtein.editops(ref_ids, hyp_ids):
        counts[op.tag] += 1
    return Edits(counts["insert"], counts["delete"], counts["replace"])


def score(
    utterances: Iterable[Scored],
    *,
    by: Unit = "utterance",
    normalise: Normalisation = "none",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    num_worst: int = 10,
) -> ScoreReport:
    """Score a set of hypotheses.

    The interval holds ``confidence`` of ``resamples`` bootstrap samples of utterances or speakers,
    keyed by ``seed``: the same hypotheses in the same order always give the same interval.

    Raises :class:`CorpusError` when no reference holds a word, and :class:`UsageError` when drawing
    by speaker and an utterance has none.
    """
    scored: list[Scored] = []
    rows: list[tuple[int, int, int, int, int, int]] = []
    units: list[str] = []
    num_without_ref = 0
    for utterance in utterances:
        if utterance.ref is None:
            num_without_ref += 1
            continue
        ref, hyp = normalised(utterance.ref, normalise), normalised(utterance.hyp, normalise)
        ref_words, hyp_words = ref.split(), hyp.split()
        words = edits(ref_words, hyp_words)
        ref_chars, hyp_chars = " ".join(ref_words), " ".join(hyp_words)
        char_errors = Levenshtein.distance(ref_chars, hyp_chars)
        counts = (words.insertions, words.deletions, words.substitutions)
        rows.append((*counts, len(ref_words), char_errors, len(ref_chars)))
        scored.append(Scored(utterance.id, hyp, ref, utterance.speaker))
        units.append(_unit(utterance, by))
    table = np.array(rows, np.int64).reshape(-1, 6)
    insertions, deletions, substitutions, num_words, char_errors, num_chars = table.sum(axis=0).tolist()
    if num_words == 0:
        known = f"{len(scored)} references, none with a word" if scored else "no reference"
        raise CorpusError(
            f"nothing to score: {known} among {len(scored) + num_without_ref} hypotheses",
            "References come from the input of the recognition: a table, a manifest or a prepared corpus.",
        )
    errors_N, words_N = table[:, :3].sum(axis=1), table[:, 3]
    errors_D, words_D = _sums_by_unit(units, errors_N, words_N) if by == "speaker" else (errors_N, words_N)
    low, high = _interval(errors_D, words_D, resamples, confidence, seeds.generator("bootstrap", seed))
    wrong = sorted(np.flatnonzero(errors_N).tolist(), key=lambda n: (-errors_N[n], words_N[n], scored[n].id))
    return ScoreReport(
        wer=(insertions + deletions + substitutions) / num_words,
        wer_low=low,
        wer_high=high,
        cer=char_errors / num_chars,
        num_words=num_words,
        num_chars=num_chars,
        insertions=insertions,
        deletions=deletions,
        substitutions=substitutions,
        char_errors=char_errors,
        num_utterances=len(scored),
        num_correct=len(scored) - len(wrong),
        num_without_ref=num_without_ref,
        num_empty_refs=int((words_N == 0).sum()),
        by=by,
        num_drawn=len(errors_D),
        confidence=confidence,
        normalise=normalise,
        worst=tuple(_errors_of(scored[n], int(errors_N[n]), int(words_N[n])) for n in wrong[:num_worst]),
    )


def _errors_of(utterance: Scored, errors: int, num_words: int) -> UtteranceErrors:
    return UtteranceErrors(utterance.id, errors, num_words, utterance.ref or "", utterance.hyp)


def _unit(utterance: Scored, by: Unit) -> str:
    if by == "utterance":
        return utterance.id
    if utterance.speaker is None:
        raise UsageError(
            f"{utterance.id}: no speaker is known, so the interval cannot be drawn by speaker",
            "Draw by utterance, or give speakers in the recognition's input.",
        )
    return utterance.speaker


def _sums_by_unit(units: Sequence[str], errors_N: I64, words_N: I64) -> tuple[I64, I64]:
    numbers: dict[str, int] = {}
    unit_N = np.array([numbers.setdefault(unit, len(numbers)) for unit in units], np.int64)
    errors, words = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), np.int64)
    np.add.at(errors, unit_N, errors_N)
    np.add.at(words, unit_N, words_N)
    return errors, words


def _interval(
    errors_N: I64, words_N: I64, resamples: int, confidence: float, generator: np.random.Generator
) -> tuple[float, float]:
    """Percentiles of the error rate over resamples; resamples without a word have no rate."""
    num = len(errors_N)
    at_once = max(1, _DRAWS_AT_ONCE // num)
    rates = []
    for start in range(0, resamples, at_once):
        draws_RN = generator.integers(num, size=(min(at_once, resamples - start), num))
        errors_R, words_R = errors_N[draws_RN].sum(axis=1), words_N[draws_RN].sum(axis=1)
        rates.append(errors_R[words_R > 0] / words_R[words_R > 0])
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(rates), [tail, 1 - tail])
    return float(low), float(high)
