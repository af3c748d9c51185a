"""Whether two recognisers differ on the same test set: the matched-pair sentence-segment test.

MAPSSWE: Gillick & Cox, "Some statistical issues in the comparison of speech recognition algorithms",
ICASSP 1989. Errors are counted in segments that both may be judged on independently; their difference
per segment has mean zero if the recognisers are equally good.

A segment reaches from one good stretch to the next: ``GOOD_WORDS`` words in a row that both
recognised without error, as in NIST's ``sc_stats``. So an error cannot reach, through the recogniser's
context, from one segment into another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

GOOD_WORDS = 2
"""Words without error on both sides that part two segments."""
_FEW = 30
"""Segments with a difference below which the normal distribution is no good guide."""


@dataclass(frozen=True)
class Comparison:
    """The test's answer; positive differences mean that A made more errors."""

    num_segments: int
    """Segments in which at least one made an error."""
    errors_a: int
    errors_b: int
    mean: float
    """Errors of A less those of B, per segment."""
    z: float
    """The mean in standard errors."""
    p: float
    """The chance of a difference at least that large, either way, if both are equally good."""
    few: bool
    """Too few segments for ``p`` to be relied on."""


def word_errors(ref: Sequence[str], hyp: Sequence[str]) -> list[int]:
    """Errors at each place of the reference, and behind its end: (num words + 1).

    Substitutions and deletions stand at their word; insertions at the word that they precede.
    """
    numbers: dict[str, int] = {}
    ref_ids = [numbers.setdefault(word, len(numbers)) for word in ref]
    hyp_ids = [numbers.setdefault(word, len(numbers)) for word in hyp]
    errors = [0] * (len(ref) + 1)
    for op in Levenshtein.editops(ref_ids, hyp_ids):
        errors[op.src_pos] += 1
    return errors


def segments(errors_a: Sequence[int], errors_b: Sequence[int]) -> list[tuple[int, int]]:
    """Errors of both in each segment of one utterance that has any.

    The arguments are :func:`word_errors` of the same reference. The ends of an utterance are good.
    """
    found: list[tuple[int, int]] = []
    good = GOOD_WORDS  # what comes before an utterance parts as well
    for a, b in zip(errors_a, errors_b, strict=True):
        if a == 0 and b == 0:
            good += 1
            continue
        if good >= GOOD_WORDS:
            found.append((0, 0))
        good = 0
        found[-1] = (found[-1][0] + a, found[-1][1] + b)
    return found


def compare(pairs: Sequence[tuple[int, int]]) -> Comparison:
    """The test over the segments of all utterances. Without a difference, ``p`` is 1."""
    differences = [a - b for a, b in pairs]
    num = len(differences)
    mean = sum(differences) / num if num else 0.0
    variance = sum((difference - mean) ** 2 for difference in differences) / (num - 1) if num > 1 else 0.0
    if variance > 0:
        z = mean / math.sqrt(variance / num)
    else:
        z = math.copysign(math.inf, mean) if mean and num > 1 else 0.0
    return Comparison(
        num_segments=num,
        errors_a=sum(a for a, _ in pairs),
        errors_b=sum(b for _, b in pairs),
        mean=mean,
        z=z,
        p=math.erfc(abs(z) / math.sqrt(2.0)),
        few=num < _FEW,
    )
