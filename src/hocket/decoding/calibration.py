"""From a raw confidence to a probability: Platt's scaling, and how far off confidences are.

``sigmoid(scale * logit(c) + offset)``, fitted to words that were right or wrong: Platt, "Probabilistic
outputs for support vector machines", 1999. The expected calibration error is that of Guo et al., "On
calibration of modern neural networks", ICML 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.core.errors import CorpusError

F64 = npt.NDArray[np.float64]
_EDGE = 1e-4
"""Confidences are kept that far from 0 and 1: a word is written with four digits."""


@dataclass(frozen=True)
class Calibration:
    """A monotone map of confidences; the default changes nothing."""

    scale: float = 1.0
    offset: float = 0.0

    def __call__(self, confidence: float) -> float:
        """The calibrated confidence, between 0 and 1."""
        return float(_sigmoid(self.scale * _logit(np.array([confidence])) + self.offset)[0])


@dataclass(frozen=True)
class Bin:
    """Words whose confidence lies between ``low`` and ``high``."""

    low: float
    high: float
    num_words: int
    confidence: float
    """Their mean confidence."""
    correct: float
    """The share of them that was right."""


@dataclass(frozen=True)
class Reliability:
    """How well confidences say what share of words is right."""

    bins: tuple[Bin, ...]
    ece: float
    """Mean distance of confidence and share, weighted by words."""
    cross_entropy: float
    """Nats a word; smaller is better."""
    num_words: int


def fit(confidences: Sequence[float], correct: Sequence[bool]) -> Calibration:
    """The map of greatest likelihood, with Platt's softened targets so that it always exists.

    Raises :class:`CorpusError` when all words are right, or all are wrong.
    """
    from scipy.optimize import minimize  # a second to import: here for those who fit

    right_N = np.array(correct, bool)
    if right_N.all() or not right_N.any():
        raise CorpusError("confidences cannot be calibrated: all words are right, or all are wrong")
    x_N = _logit(np.array(confidences, np.float64))
    num_right = int(right_N.sum())
    high, low = (num_right + 1) / (num_right + 2), 1 / (len(right_N) - num_right + 2)
    target_N = np.where(right_N, high, low)

    def loss(parameters: F64) -> tuple[float, F64]:
        z_N = parameters[0] * x_N + parameters[1]
        error_N = _sigmoid(z_N) - target_N
        value = float((np.logaddexp(0.0, z_N) - target_N * z_N).sum())
        return value, np.array([(error_N * x_N).sum(), error_N.sum()])

    best = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(1e-3, None), (None, None)]
    )
    return Calibration(round(float(best.x[0]), 6), round(float(best.x[1]), 6))


def reliability(confidences: Sequence[float], correct: Sequence[bool], num_bins: int = 10) -> Reliability:
    """Confidences in bins of equal width against the share of right words. At least one word."""
    confidence_N, right_N = np.array(confidences, np.float64), np.array(correct, np.float64)
    if not len(confidence_N):
        raise CorpusError(
            "no word has a confidence", "Recognise with --words; every utterance needs a reference."
        )
    bin_N = np.minimum((confidence_N * num_bins).astype(np.int64), num_bins - 1)
    bins = []
    for number in np.unique(bin_N).tolist():
        inside_N = bin_N == number
        mean, share = float(confidence_N[inside_N].mean()), float(right_N[inside_N].mean())
        bins.append(Bin(number / num_bins, (number + 1) / num_bins, int(inside_N.sum()), mean, share))
    ece = sum(entry.num_words * abs(entry.confidence - entry.correct) for entry in bins) / len(right_N)
    clipped_N = np.clip(confidence_N, _EDGE, 1 - _EDGE)
    entropy = -float(np.mean(right_N * np.log(clipped_N) + (1 - right_N) * np.log1p(-clipped_N)))
    return Reliability(tuple(bins), ece, entropy, len(right_N))


def _logit(confidence_N: F64) -> F64:
    clipped_N = np.clip(confidence_N, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped_N) - np.log1p(-clipped_N))


def _sigmoid(x_N: F64) -> F64:
    return np.asarray(np.exp(-np.logaddexp(0.0, -x_N)))
