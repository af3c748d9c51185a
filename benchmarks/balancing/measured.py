"""What micro-batches really take: forward and backward of a small model on one thread."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
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
ROUNDS, MORE_ROUNDS = 5, 15
WARM_UP = 3
"""Rounds that do not count: a library prepares kernels for shapes it has not met."""


@dataclass(frozen=True)
class Measured:
    """Slowest over mean rank of sampled steps, by what was predicted and by what was measured."""

    precision: str
    cost: CostModel
    degree: int
    predicted: list[float]
    measured: dict[int, list[float]]
    """By how many rounds the least is of."""
    noise: dict[int, list[float]]
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

    Each counts with the least processor time of :data:`ROUNDS` rounds (and of :data:`MORE_ROUNDS`), in
    which the micro-batches of a step take turns; processor time, since a machine does more than one
    thing. Steps are spread evenly over the epoch. The features are noise: no part of the time looks at them.
    """
    config = ModelConfig.model_validate({"preset": preset, "vocab_size": VOCAB_SIZE})
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
        steps.append((costs, _times(replica, batches), _times(replica, [batches[0]] * len(batches))))
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
                measured={
                    rounds: [imbalance(_least(took, rounds), share) for (_, took, _), share in dealt]
                    for rounds in (ROUNDS, MORE_ROUNDS)
                },
                noise={
                    rounds: [imbalance(_least(same, rounds), share) for (_, _, same), share in dealt]
                    for rounds in (ROUNDS, MORE_ROUNDS)
                },
                off=[
                    b / a
                    for costs, took, _ in steps
                    for a, b in zip(costs, _least(took, MORE_ROUNDS), strict=True)
                ],
            )
        )
    return found


def _times(replica: Replica, batches: list[MicroBatch]) -> npt.NDArray[np.float64]:
    """Processor seconds by round and micro-batch; they take turns."""
    times = np.empty((WARM_UP + MORE_ROUNDS, len(batches)))
    for row in times:
        for place, batch in enumerate(batches):
            begun = time.thread_time()
            float(replica.forward_backward([batch])[0].loss)
            row[place] = time.thread_time() - begun
    replica.zero_grad()
    return times[WARM_UP:]


def _least(times: npt.NDArray[np.float64], rounds: int) -> list[float]:
    return [float(least) for least in times[:rounds].min(0)]


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
