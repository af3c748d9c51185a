"""An n-gram language model from text: interpolated modified Kneser-Ney.

Chen & Goodman, "An empirical study of smoothing techniques for language modeling", Computer Speech
and Language 13, 1999, section 3; estimated as in Heafield et al., "Scalable modified Kneser-Ney
language model estimation", ACL 2013. In memory: made for the texts of a training corpus.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from hocket.core.errors import UsageError
from hocket.decoding.arpa import BEGIN, END, NEVER, UNKNOWN, Ngram, NgramModel

_FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as KenLM's --discount_fallback has them."""


def train(sentences: Iterable[str], order: int = 3) -> NgramModel:
    """A model of all words of ``sentences``, words parted by white space.

    Unknown words share what the unigrams' discounts leave, as one more word of the vocabulary.
    Raises :class:`UsageError` for an order that is not 1 to 6, and for texts without a word.
    """
    if not 1 <= order <= 6:
        raise UsageError(f"order: {order} is not between 1 and 6")
    lines = [tuple(sentence.split()) for sentence in sentences]
    if not any(lines):
        raise UsageError("a language model needs text: there is no word in it")
    counts = adjusted_counts(lines, order)
    vocabulary = {ngram[0] for ngram in counts[0]} | {UNKNOWN}
    probs: dict[Ngram, float] = {}
    weights: dict[Ngram, float] = {(): 1.0}
    for length, of_length in enumerate(counts, 1):
        steps = discounts(of_length)
        totals: defaultdict[Ngram, int] = defaultdict(int)
        left: defaultdict[Ngram, float] = defaultdict(float)
        for ngram, count in of_length.items():
            totals[ngram[:-1]] += count
            left[ngram[:-1]] += _discount(steps, count)
        if length > 1:
            weights |= {context: left[context] / total for context, total in totals.items()}
        for ngram, count in of_length.items():
            context = ngram[:-1]
            kept = (count - _discount(steps, count)) / totals[context]
            lower = probs[ngram[1:]] if length > 1 else 1.0 / len(vocabulary)
            probs[ngram] = kept + left[context] / totals[context] * lower
        if length == 1:
            probs[(UNKNOWN,)] = left[()] / totals[()] / len(vocabulary)
    return _model(order, probs, weights)


def adjusted_counts(lines: Iterable[Ngram], order: int) -> list[Counter[Ngram]]:
    """Counts by length: of the longest n-grams as they come, of shorter ones the words seen before them.

    N-grams that begin a sentence have no word before them and keep their count.
    """
    seen: list[Counter[Ngram]] = [Counter() for _ in range(order)]
    for words in lines:
        line = (BEGIN, *words, END)
        for length in range(1, order + 1):
            seen[length - 1].update(line[start : start + length] for start in range(len(line) - length + 1))
    adjusted = [seen[-1]]
    for length in range(order - 1, 0, -1):
        before: Counter[Ngram] = Counter(ngram[1:] for ngram in seen[length])
        before.update({ngram: count for ngram, count in seen[length - 1].items() if ngram[0] == BEGIN})
        adjusted.insert(0, before)
    del adjusted[0][(BEGIN,)]  # never guessed, only given
    return adjusted


def discounts(counts: Mapping[Ngram, int]) -> tuple[float, float, float]:
    """What is taken from counts of 1, of 2, and of 3 and more (Chen & Goodman, equation 26)."""
    of = Counter(count for count in counts.values() if count <= 4)
    if not all(of[number] for number in (1, 2, 3, 4)):
        return _FALLBACK
    share = of[1] / (of[1] + 2 * of[2])
    one, two, more = (number - (number + 1) * share * of[number + 1] / of[number] for number in (1, 2, 3))
    fits = 0 <= one <= 1 and 0 <= two <= 2 and 0 <= more <= 3
    return (one, two, more) if fits else _FALLBACK


def _discount(steps: tuple[float, float, float], count: int) -> float:
    """Never more than the count itself."""
    return min(float(count), steps[min(count, 3) - 1])


def _model(order: int, probs: Mapping[Ngram, float], weights: Mapping[Ngram, float]) -> NgramModel:
    log_probs = {ngram: math.log10(prob) for ngram, prob in probs.items() if prob > 0}
    log_probs[(BEGIN,)] = NEVER
    backoffs = {
        context: math.log10(weight) if weight > 0 else NEVER
        for context, weight in weights.items()
        if context and len(context) < order
    }
    return NgramModel(order, log_probs, backoffs)
