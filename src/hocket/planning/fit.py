"""Fitting the cost model to this machine by running real micro-batches."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import nnls

from hocket.core import clock, seeds
from hocket.core.cost import CostModel
from hocket.core.protocols import Replica
from hocket.core.work import MicroBatch

_SHAPES = ((1, 100), (4, 100), (16, 100), (1, 400), (4, 400), (12, 400), (1, 1200), (4, 1200))
_ROUNDS = 5
"""The shapes take turns, so that a busy moment of the machine does not fall on one of them alone."""
_FRAMES_PER_TOKEN = 15


def fit_cost(replica: Replica, num_mel_bins: int) -> CostModel:
    """Coefficients by non-negative least squares on relative errors; the minimum of a few rounds.

    Gradients are cleared afterwards.
    """
    batches = [_random_batch(*shape, num_mel_bins) for shape in _SHAPES]
    measured = np.min([[_run(replica, batch) for batch in batches] for _ in range(_ROUNDS)], axis=0)
    replica.zero_grad()
    rows = [[1.0, b, b * t, b * t**2] for b, t in _SHAPES]
    fitted, _ = nnls(np.asarray(rows) / measured[:, None], np.ones(len(rows)))
    a0, a, b, c = fitted.tolist()
    return CostModel(a0, a, b, c)


def _run(replica: Replica, batch: MicroBatch) -> float:
    start = clock.monotonic()
    float(replica.forward_backward([batch])[0].loss)
    return clock.monotonic() - start


def _random_batch(num_utterances: int, num_frames: int, num_mel_bins: int) -> MicroBatch:
    draw = seeds.generator("cost", num_utterances, num_frames)
    num_tokens = max(1, num_frames // _FRAMES_PER_TOKEN)
    features_BTF = draw.standard_normal((num_utterances, num_frames, num_mel_bins), np.float32)
    return MicroBatch(
        index=0,
        ids=[f"cost-{number}" for number in range(num_utterances)],
        features_BTF=torch.from_numpy(features_BTF),
        feature_lens_B=torch.full((num_utterances,), num_frames),
        tokens_BU=(torch.arange(num_tokens) % 2).expand(num_utterances, -1).contiguous(),
        token_lens_B=torch.full((num_utterances,), num_tokens),
        dropout_key=seeds.key("cost"),
    )
