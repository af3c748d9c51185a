"""The same training on any number of workers, in float64: losses, every gradient, the weights."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from hocket.batching import BatchPlan, BatchSettings, assign
from hocket.comms.communicator import TorchCommunicator
from hocket.core.protocols import RankPart
from hocket.corpus.augment import AugmentSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader
from hocket.corpus.tokens import Tokens
from hocket.model import ModelConfig, build, workload
from hocket.parallel.whole import WholeReplica
from hocket.sync.all_reduce import AllReduce
from processes import run_processes
from small import SMALL_MODEL

STEPS = 20
MICRO_BATCHES = 2
"""Fewer than the three ranks of the largest run, so that one of them has no work."""


@dataclass
class Course:
    """What one training went through."""

    losses: list[float]
    gradients: list[torch.Tensor]
    weights: torch.Tensor


def course(folder: Path) -> Course:
    """Twenty SGD steps with dropout, speed perturbation and SpecAugment on."""
    ranks = TorchCommunicator()
    index, tokens = CorpusIndex.open(folder, "train"), Tokens.load(folder)
    augment = AugmentSettings()
    config = ModelConfig.model_validate(
        {**SMALL_MODEL, "intermediate_ctc": [1], "consistency": 0.2}
    ).with_tokens(tokens.vocab_size, 80)
    plan = BatchPlan(
        index,
        BatchSettings(seconds=12.0, micro_batches_per_step=MICRO_BATCHES, pool_steps=4),
        workload.cost(config),
        seed=1,
        speed_percents=augment.speed_percents,
    )
    loader = Loader(index, tokens, FeatureSettings(), augment, seed=1, num_views=config.num_views)
    model = build(config, seed=1).double()
    replica = WholeReplica(model, torch.device("cpu"), precision="fp32", bucket_mb=0.01)
    strategy = AllReduce(ranks, max_grad_norm=5.0)
    strategy.attach(replica)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    losses, gradients = [], []
    for step in range(STEPS):
        batch = plan.global_batch(step)
        mine = assign([spec.cost for spec in batch.micro_batches], ranks.world_size)[ranks.rank]
        loaded = [loader.load(batch.micro_batches[position], batch.epoch, step) for position in mine]
        for micro_batch in loaded:
            micro_batch.features_BTF = micro_batch.features_BTF.double()
        strategy.begin_step(batch, settle=False)
        results = replica.forward_backward(loaded, on_bucket=strategy.on_grad_ready)
        losses.append(strategy.step(optimiser, RankPart(results)).result().loss_sum / batch.total_tokens)
        gradients.append(torch.cat([bucket.flat.clone() for bucket in replica.buckets]))
    return Course(losses, gradients, torch.cat([p.detach().reshape(-1) for p in model.parameters()]))


@pytest.fixture(scope="module")
def alone(corpus: Path) -> Course:
    return run_processes(1, course, corpus)[0]


@pytest.mark.parametrize("world_size", [2, 3])
def test_workers_change_nothing(world_size: int, corpus: Path, alone: Course) -> None:
    for found in run_processes(world_size, course, corpus):
        assert found.losses == pytest.approx(alone.losses, rel=1e-9)
        for ours, theirs in zip(found.gradients, alone.gradients, strict=True):
            assert float((ours - theirs).norm() / theirs.norm()) < 1e-9
        assert float((found.weights - alone.weights).norm() / alone.weights.norm()) < 1e-9


def test_it_did_learn(alone: Course) -> None:
    assert alone.losses[-1] < alone.losses[0]
