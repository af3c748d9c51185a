"""What a way of training costs in words: WER over seeds, and its change against plain all-reduce.

The bootstrap draws seeds and utterances, both with replacement (the same utterances for all seeds of a
draw, since all are scored on one test part): seeds alone would leave out what the test part adds, and
utterances alone what another seed would have given. A change is paired: the same seeds and the same
utterances on both sides. Bisani & Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004; for two factors, Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from hocket.core import seeds as keyed
from hocket.reports.scale.facts import Parity
from hocket.studies.scale.cell import Scored

_RESAMPLES = 2000
_TAILS = (0.025, 0.975)
F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]


def parity(
    label: str,
    workers: int,
    partition: str,
    own: Mapping[int, Scored],
    plain: Mapping[int, Scored] | None,
) -> Parity:
    """``own`` and ``plain`` by seed; ``plain`` None for plain all-reduce itself.

    The change is over the seeds that both have, and None where there is none or plain made no error.
    """
    draw = keyed.generator("parity", workers, partition, label)
    rates = _rates([own[seed] for seed in sorted(own)], draw)
    low, high = np.quantile(rates, _TAILS)
    change: tuple[float, float, float] | None = None
    both = sorted(own.keys() & plain.keys()) if plain is not None else []
    if plain is not None and both:
        mine, theirs = [own[seed] for seed in both], [plain[seed] for seed in both]
        change = _change(mine, theirs, draw)
    return Parity(
        label=label,
        workers=workers,
        partition=partition,
        seeds=tuple(sorted(own)),
        wer=float(np.mean([scored.wer for scored in own.values()])),
        wer_low=float(low),
        wer_high=float(high),
        change=None if change is None else change[0],
        change_low=None if change is None else change[1],
        change_high=None if change is None else change[2],
    )


def _change(
    mine: list[Scored], theirs: list[Scored], draw: np.random.Generator
) -> tuple[float, float, float] | None:
    """Of the mean, and the ends of its interval; None where the others made no error at all."""
    mean, other = np.mean([each.wer for each in mine]), np.mean([each.wer for each in theirs])
    errors_SN, words_SN = _tables(mine)
    other_SN, _ = _tables(theirs)
    drawn = _drawn(errors_SN, draw)
    both = [_drawn_rates(each, words_SN, *drawn) for each in (errors_SN, other_SN)]
    ratio = both[0][both[1] > 0] / both[1][both[1] > 0] - 1
    if other == 0 or not len(ratio):
        return None
    low, high = np.quantile(ratio, _TAILS)
    return float(mean / other - 1), float(low), float(high)


def _rates(scored: list[Scored], draw: np.random.Generator) -> F64:
    errors_SN, words_SN = _tables(scored)
    return _drawn_rates(errors_SN, words_SN, *_drawn(errors_SN, draw))


def _tables(scored: list[Scored]) -> tuple[F64, F64]:
    return np.array([each.errors for each in scored], float), np.array([each.words for each in scored], float)


def _drawn(errors_SN: F64, draw: np.random.Generator) -> tuple[I64, I64]:
    num_seeds, num_utterances = errors_SN.shape
    seeds_RS = draw.integers(num_seeds, size=(_RESAMPLES, num_seeds))
    rows_RN = draw.integers(num_utterances, size=(_RESAMPLES, num_utterances))
    return seeds_RS, rows_RN


def _drawn_rates(errors_SN: F64, words_SN: F64, seeds_RS: I64, rows_RN: I64) -> F64:
    """The rate of each resample: how often each seed and utterance was drawn, times what it has."""
    of_seed_RS = _counts(seeds_RS, errors_SN.shape[0])
    of_row_RN = _counts(rows_RN, errors_SN.shape[1])
    errors_R = ((of_seed_RS @ errors_SN) * of_row_RN).sum(axis=1)
    words_R = ((of_seed_RS @ words_SN) * of_row_RN).sum(axis=1)
    rates: F64 = errors_R / np.maximum(words_R, 1.0)  # a resample without a word has no errors to speak of
    return rates


def _counts(drawn_RK: I64, number: int) -> F64:
    counts_RK = np.zeros((len(drawn_RK), number))
    np.add.at(counts_RK, (np.arange(len(drawn_RK))[:, None], drawn_RK), 1.0)
    return counts_RK
