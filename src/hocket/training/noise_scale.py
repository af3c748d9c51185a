"""The gradient noise scale: how large a batch the model and corpus bear.

McCandlish, Kaplan, Amodei et al., "An Empirical Model of Large-Batch Training", arXiv:1812.06162. With a
true gradient G and noise of covariance Sigma for one unit of data, the noise scale tr(Sigma)/|G|^2 is the
batch at which a step gains half of what the largest batch's step would, and data gain half of what the
smallest batch's would. Here the unit is a token, what the loss is divided by; the scale is told in seconds
of audio and in utterances, by the mean of the probe steps.

Appendix A.1 of the paper compares gradients of two batch sizes. A probe step has M micro-batches, random
samples with w_i tokens, and their sum, W tokens. With the sums of gradients g_i and g,

    sum_i |g_i|^2 / w_i - |g|^2 / W    has the mean  (M - 1) tr(Sigma),
    |g|^2 / W^2 - tr(Sigma) / W        has the mean  |G|^2,

which is unbiased for micro-batches of any sizes. Both are smoothed over probe steps before one is divided
by the other: as parts of the squared norm of the step's gradient, so that early steps, whose gradients may
be a hundred times as large, do not drown later ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_KEEP = 0.9
"""Of a smoothed estimate from one probe step to the next: a mean over about the last ten."""


@dataclass(frozen=True)
class Estimate:
    """Of one probe step; either may be negative by chance."""

    noise: float
    """tr(Sigma) for one token, of the gradient of the loss per token."""
    signal: float
    """|G|^2."""


def estimate(num_units: int, weights: float, squares: float, grad_norm: float, tokens: int) -> Estimate:
    """From ``num_units`` random samples of ``weights`` tokens together (at least two samples).

    ``squares`` is the sum of their squared gradient norms, each over its tokens; ``grad_norm`` is of the
    sum of their gradients over ``tokens``, the divisor of the step's loss.
    """
    total = (grad_norm * tokens) ** 2
    noise = (squares - total / weights) / (num_units - 1)
    return Estimate(noise, total / weights**2 - noise / weights)


@dataclass
class NoiseScale:
    """The smoothed estimate of a run so far: both parts are smoothed alike, so their ratio needs no more."""

    noise: float = 0.0
    """Over the squared norm of the gradient for each token."""
    signal: float = 0.0
    """Over the same."""
    num_probes: int = 0
    tokens: int = 0
    frames: int = 0
    utterances: int = 0

    def add(self, found: Estimate, tokens: int, frames: int, utterances: int) -> None:
        """One more probe step, with what was learnt from in it."""
        norm = found.signal + found.noise / tokens
        if norm <= 0:  # a gradient of nothing
            return
        self.noise = _KEEP * self.noise + (1 - _KEEP) * found.noise / norm
        self.signal = _KEEP * self.signal + (1 - _KEEP) * found.signal / norm
        self.num_probes += 1
        self.tokens += tokens
        self.frames += frames
        self.utterances += utterances

    @property
    def num_tokens(self) -> float | None:
        """The noise scale in tokens; None while the gradient does not stand out from its noise."""
        if self.signal <= 0 or self.noise <= 0:
            return None
        return self.noise / self.signal

    def told(self, batch_seconds: float, micro_batches: int, seconds_per_frame: float) -> dict[str, Any]:
        """The estimate in units of a recipe, and the advice, for steps of ``batch_seconds``."""
        tokens = self.num_tokens
        if tokens is None:
            return {"noise_seconds": None, "num_probes": self.num_probes}
        seconds = tokens * self.frames * seconds_per_frame / self.tokens
        return {
            "noise_seconds": seconds,
            "noise_utterances": tokens * self.utterances / self.tokens,
            "noise_tokens": tokens,
            "num_probes": self.num_probes,
            **advice(seconds, batch_seconds, micro_batches),
        }


def advice(noise_seconds: float, batch_seconds: float, micro_batches: int) -> dict[str, Any]:
    """What a noise scale says to a run with steps of ``batch_seconds``, cut into ``micro_batches``.

    ``data_efficiency`` (0 to 1): progress for each second of audio, where the smallest batch is 1;
    ``step_efficiency``: progress for each step, where the largest batch is 1; ``max_workers``: one
    micro-batch of this size each makes a step as large as the noise scale. With more, each second of
    audio brings less than half.
    """
    return {
        "batch_seconds": batch_seconds,
        "data_efficiency": 1 / (1 + batch_seconds / noise_seconds),
        "step_efficiency": 1 / (1 + noise_seconds / batch_seconds),
        "max_workers": max(1, int(noise_seconds * micro_batches / batch_seconds)),
    }
