"""What micro-batches really take: forward and backward of a small model on one thread."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from balancing.lengths import Lengths
from balancing.ways import Ours
from hocket.batching import BatchPlan, assign, imbalance
from hocket.core import seeds
from hocket.core.cost import CostModel
from hocket.core.layout import Layout
from hocket.core.protocols import Replica
from hocket.core.work import MicroBatch, MicroBatchSpec
from hocket.corpus.features import HOP
from hocket.model import ModelConfig, build
from hocket.parallel import apply
from hocket.parallel.precision import Precision
from hocket.planning.fit import fit_cost

VOCAB_SIZE = 32
ROUNDS = 5


@dataclass(frozen=True)
class Measured:
    """Slowest over mean rank of sampled steps, by what was predicted and by what was measured."""

    precision: str
    cost: CostModel
    degree: int
    predicted: list[float]
    measured: list[float]
    noise: list[float]
    """The same with one micro-batch, measured again and again, in the place of all of a step."""
    off: list[float]
    """Measured over predicted seconds of every micro-batch."""


def measure(
    lengths: Lengths,
    ours: Ours,
    degrees: list[int],
    num_steps: int,
    precision: Precision,
    preset: str = "tiny",
) -> list[Measured]:
    """Cut by a fitted cost, as ``batch.cost: measured`` does, and time every micro-batch of some steps.

    Each counts with the least processor time of :data:`ROUNDS` rounds, in which the micro-batches of a
    step take turns; processor time, since a machine does more than one thing. Steps are spread evenly
    over the epoch. The features are noise: no part of the time looks at them.
    """
    config = ModelConfig(preset=preset, vocab_size=VOCAB_SIZE)
    replica = apply(build(config, seed=0), Layout(), torch.device("cpu"), precision=precision)
    replica.model.train()
    cost = fit_cost(replica, config.num_mel_bins)
    plan = BatchPlan(lengths, ours.settings(), cost, seed=0)
    chosen = np.unique(np.linspace(0, plan.steps_per_epoch - 1, num_steps).astype(int))
    steps = []
    for step in chosen:
        specs = plan.global_batch(int(step)).micro_batches
        batches = [_tensors(spec, lengths, config.num_mel_bins) for spec in specs]
        costs = [spec.cost for spec in specs]
        steps.append((costs, _least(replica, batches), _least(replica, [batches[0]] * len(batches))))
    found = []
    for degree in degrees:
        shares = [assign(costs, degree) for costs, _, _ in steps]
        dealt = list(zip(steps, shares, strict=True))
        found.append(
            Measured(
                precision=precision,
                cost=cost,
                degree=degree,
                predicted=[imbalance(costs, share) for (costs, _, _), share in dealt],
                measured=[imbalance(took, share) for (_, took, _), share in dealt],
                noise=[imbalance(same, share) for (_, _, same), share in dealt],
                off=[b / a for costs, took, _ in steps for a, b in zip(costs, took, strict=True)],
            )
        )
    return found


def _least(replica: Replica, batches: list[MicroBatch]) -> list[float]:
    """Least processor seconds of each, taking turns."""
    least = [math.inf] * len(batches)
    for _ in range(ROUNDS):
        for place, batch in enumerate(batches):
            begun = time.thread_time()
            float(replica.forward_backward([batch])[0].loss)
            least[place] = min(least[place], time.thread_time() - begun)
    replica.zero_grad()
    return least


def _tensors(spec: MicroBatchSpec, lengths: Lengths, num_mel_bins: int) -> MicroBatch:
    """Noise of the shape of the micro-batch, with its utterances' lengths."""
    draw = seeds.generator("balance", spec.index)
    frames, tokens = lengths.num_samples[spec.rows] // HOP, lengths.num_tokens[spec.rows].astype(np.int64)
    features_BTF = draw.standard_normal((len(spec.rows), spec.num_frames, num_mel_bins), np.float32)
    return MicroBatch(
        index=spec.index,
        ids=[str(row) for row in spec.rows],
        features_BTF=torch.from_numpy(features_BTF),
        feature_lens_B=torch.from_numpy(frames),
        tokens_BU=torch.from_numpy(draw.integers(0, VOCAB_SIZE - 1, (len(spec.rows), spec.num_tokens))),
        token_lens_B=torch.from_numpy(tokens),
        dropout_key=seeds.key("balance"),
    )
