"""A model with everything that makes pipelines hard, and pipelines of it as threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hocket.comms.communicator import Alone, Communicator, run_threads
from hocket.core.protocols import Replica
from hocket.core.work import MicroBatch
from hocket.model import ModelConfig, build
from hocket.parallel.gradients import WholeGradients
from hocket.parallel.pipeline import PipelineReplica, balanced, cut
from hocket.parallel.pipeline_lines import Lines, ThreadedLines
from hocket.parallel.pipeline_schedule import ScheduleName
from hocket.parallel.whole import Share, WholeReplica
from small import SMALL_MODEL

CPU = torch.device("cpu")
LR, MAX_NORM = 0.05, 0.5
STEPS = 2
LENGTHS = ((61, 50, 7), (33, 9), (), (70, 69, 31, 8), (80,), (45, 44))
"""Feature frames of the utterances of each micro-batch of a step; one has none."""


def config(**changes: Any) -> ModelConfig:
    """Six pieces, learnt from after two inner blocks, in two views."""
    given = {"num_layers": 4, "intermediate_ctc": [1, 3], "consistency": 0.2, **changes}
    return ModelConfig.model_validate({**SMALL_MODEL, **given}).with_tokens(12, 8)


def micro_batch(step: int, index: int, views: int, dtype: torch.dtype) -> MicroBatch:
    """A micro-batch of the given lengths, padded a little beyond the longest."""
    lens = LENGTHS[index]
    draw = torch.Generator().manual_seed(100 * step + index)
    padded = max(lens, default=0) + 3
    return MicroBatch(
        index=index,
        ids=[f"{step}-{index}-{n}" for n in range(len(lens))],
        features_BTF=torch.randn(views * len(lens), padded, 8, generator=draw).to(dtype),
        feature_lens_B=torch.tensor(lens, dtype=torch.int64),
        tokens_BU=torch.randint(0, 11, (len(lens), 2), generator=draw),
        token_lens_B=torch.tensor([1 + (n > 16) for n in lens], dtype=torch.int64),
        dropout_key=1000 * step + index,
        num_views=views,
    )


@dataclass
class Course:
    """What a training went through, as far as one rank knows."""

    losses: list[list[float]] = field(default_factory=list)
    gradients: list[dict[str, torch.Tensor]] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)
    handed_out: list[list[int]] = field(default_factory=list)
    """Indices of buckets, as told."""
    alone: list[dict[int, dict[str, torch.Tensor]]] = field(default_factory=list)
    """Gradients of each micro-batch alone, by position."""


Freeze = Callable[[torch.nn.Module], object]


def train(
    replica: Replica,
    ranks: Communicator,
    *,
    views: int,
    indices: Sequence[int] = range(len(LENGTHS)),
    dtype: torch.dtype = torch.float64,
    one_by_one: bool = False,
) -> Course:
    """SGD steps with clipping by the norm over all ranks."""
    found = Course()
    optimiser = torch.optim.SGD(replica.model.parameters(), lr=LR)
    for step in range(STEPS):
        given = [micro_batch(step, index, views, dtype) for index in indices]
        told: list[int] = []
        alone: dict[int, dict[str, torch.Tensor]] = {}

        def take(position: int, kept: dict[int, dict[str, torch.Tensor]] = alone) -> None:
            kept[position] = gradients(replica)

        results = replica.forward_backward(
            given,
            on_bucket=lambda bucket, told=told: told.append(bucket.index),
            on_micro_batch=take if one_by_one else None,
        )
        if one_by_one:
            total = {name: sum(each[name] for each in alone.values()) for name in gradients(replica)}
            for bucket in replica.buckets:
                for name, view in bucket.views(bucket.flat):
                    view.copy_(total[name])
        found.losses.append([float(result.loss) for result in results])
        found.gradients.append(gradients(replica))
        found.handed_out.append(told)
        found.alone.append(alone)
        square = torch.zeros((), dtype=dtype)
        for bucket in replica.buckets:
            square += bucket.flat.square().sum()
        ranks.all_reduce(square).wait()
        found.norms.append(float(square.sqrt()))
        for bucket in replica.buckets:
            bucket.flat.mul_(MAX_NORM / max(found.norms[-1], MAX_NORM))
        optimiser.step()
    found.weights = {name: p.detach().clone() for name, p in replica.model.named_parameters()}
    return found


def gradients(replica: Replica) -> dict[str, torch.Tensor]:
    """A copy of what the buckets hold, by name."""
    return {name: view.clone() for bucket in replica.buckets for name, view in bucket.views(bucket.flat)}


def single(
    of: ModelConfig,
    *,
    dtype: torch.dtype = torch.float64,
    freeze: Freeze = lambda model: None,
    **given: Any,
) -> Course:
    """The training in one process."""
    model = build(of, seed=1).to(dtype)
    freeze(model)
    replica = WholeReplica(model, CPU, precision="fp32")
    return train(replica, Alone(), views=of.num_views, dtype=dtype, **given)


def make_pipeline(
    of: ModelConfig,
    ranks: Communicator,
    lines: Callable[[int], Lines],
    schedule: ScheduleName,
    chunks: int,
    *,
    dtype: torch.dtype = torch.float64,
    freeze: Freeze = lambda model: None,
    precision: Any = "fp32",
) -> PipelineReplica:
    """A rank's replica."""
    model = build(of, seed=1).to(dtype)
    freeze(model)
    stages = balanced(model, ranks.world_size, chunks)
    cut(model, stages, ranks.world_size, ranks.rank)
    return PipelineReplica(
        model,
        stages,
        ranks,
        lines(len(stages)),
        CPU,
        schedule=schedule,
        precision=precision,
        gradients=WholeGradients(model, 0.01),
        share=Share(inside=ranks, speaks=ranks.rank == 0),
    )


def threaded(
    of: ModelConfig,
    degree: int,
    schedule: ScheduleName,
    chunks: int = 1,
    *,
    dtype: torch.dtype = torch.float64,
    freeze: Freeze = lambda model: None,
    **given: Any,
) -> list[Course]:
    """The training as a pipeline of threads; by rank."""
    lines = ThreadedLines(degree * chunks)

    def work(ranks: Communicator) -> Course:
        replica = make_pipeline(of, ranks, lambda _: lines, schedule, chunks, dtype=dtype, freeze=freeze)
        return train(replica, ranks, views=of.num_views, dtype=dtype, **given)

    return list(run_threads(degree, work))


def assert_same(ranks: Sequence[Course], alone: Course, tolerance: float = 1e-9) -> None:
    """Losses, every gradient, norms and weights, within ``tolerance`` of the global norm."""
    for found in ranks:
        for losses, expected in zip(found.losses, alone.losses, strict=True):
            assert torch.allclose(torch.tensor(losses), torch.tensor(expected), rtol=tolerance, atol=0)
        assert torch.allclose(torch.tensor(found.norms), torch.tensor(alone.norms), rtol=tolerance, atol=0)
    for step, expected in enumerate(alone.gradients):
        assert_near(union([found.gradients[step] for found in ranks]), expected, tolerance)
    assert_near(union([found.weights for found in ranks]), alone.weights, tolerance)


def union(parts: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """What all ranks have together; nobody has what another has."""
    names = [name for part in parts for name in part]
    assert len(names) == len(set(names))
    return {name: value for part in parts for name, value in part.items()}


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    """Each tensor within ``tolerance`` of the norm of all."""
    assert sorted(found) == sorted(expected)
    norm = torch.stack([value.norm() for value in expected.values()]).norm()
    for name, value in expected.items():
        assert float((found[name] - value).norm() / norm) <= tolerance, name
