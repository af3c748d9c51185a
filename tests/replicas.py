"""A model with matrices and vectors, and replicas of it that train as threads of this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from hocket.batching import assign
from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.protocols import RankPart, StepReport, SyncStrategy
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.parallel.whole import WholeReplica
from hocket.sync import SyncBase, SyncContext, SyncSettings, make_strategy

NUM_MICRO_BATCHES = 6
State = dict[str, torch.Tensor]


def strategy(name: str, **given: Any) -> SyncBase:
    """The ``sync`` section of a recipe."""
    read: SyncBase = TypeAdapter(SyncSettings).validate_python({"name": name, **given})
    return read


class Net(torch.nn.Module):
    """Two matrices, a kernel and two vectors; the loss is a sum over utterances, like the real one."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)

        def weight(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(shape, generator=draw) / shape[-1] ** 0.5)

        self.first, self.bias = weight(24, 40), weight(40)
        self.kernel = weight(40, 1, 5)
        self.second, self.last = weight(40, 30), weight(30)

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        hidden_BTD = (batch.features_BTF @ self.first + self.bias).tanh()
        hidden_BDT = torch.nn.functional.conv1d(hidden_BTD.mT, self.kernel, padding=2, groups=40)
        return ((hidden_BDT.mT @ self.second).tanh() @ self.last).square().sum()


def micro_batch(step: int, index: int, dtype: torch.dtype) -> MicroBatch:
    """Inputs of a step's micro-batch: other ones at each step, of unequal sizes."""
    draw = torch.Generator().manual_seed(100 * step + index)
    size, length = 1 + index % 3, 4 + index
    return MicroBatch(
        index=index,
        ids=[f"{step}-{index}-{n}" for n in range(size)],
        features_BTF=torch.randn(size, length, 24, generator=draw).to(dtype),
        feature_lens_B=torch.full((size,), length),
        tokens_BU=torch.zeros((size, 1), dtype=torch.int64),
        token_lens_B=torch.ones(size, dtype=torch.int64),
    )


def global_batch(step: int, num_micro_batches: int = NUM_MICRO_BATCHES) -> GlobalBatch:
    """The plan of a step."""
    specs = []
    for index in range(num_micro_batches):
        size = 1 + index % 3
        rows = np.arange(size)
        specs.append(
            MicroBatchSpec(index, rows, rows, 4 + index, 1, size * (4 + index), 9 * size, 1.0 + index)
        )
    return GlobalBatch(0, step, tuple(specs))


class Recording(torch.optim.SGD):
    """SGD that adds up its steps."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__(model.parameters(), lr=0.05, fused=True)
        self.model, self.stepped = model, torch.zeros(())

    def step(self, closure: Any = None) -> Any:
        before = flat_weights(self.model)
        super().step(closure)
        self.stepped = self.stepped + flat_weights(self.model) - before


def flat_weights(model: torch.nn.Module) -> torch.Tensor:
    """A copy of all weights."""
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@dataclass
class Course:
    """What one replica went through."""

    weights: torch.Tensor
    reports: list[StepReport] = field(default_factory=list)
    consistent: list[bool] = field(default_factory=list)
    """After each step."""
    after: list[torch.Tensor] = field(default_factory=list)
    """Weights after each step."""
    ready: list[int] = field(default_factory=list)
    """Reports that were ready after each step."""
    sync_state: State = field(default_factory=dict)
    stepped: torch.Tensor = field(default_factory=lambda: torch.zeros(()))
    """Sum of the steps that its own optimiser took."""


def course(
    settings: SyncBase,
    num_ranks: int,
    *,
    steps: range,
    num_steps: int | None = None,
    dtype: torch.dtype = torch.float64,
    max_grad_norm: float = 0.0,
    settle_at: Sequence[int] = (),
    weights: torch.Tensor | None = None,
    states: Sequence[State] = (),
    spoil: Callable[[int, MicroBatch], None] | None = None,
    num_micro_batches: int = NUM_MICRO_BATCHES,
    bucket_mb: float = 0.005,
) -> list[Course]:
    """Train ``steps`` of a run with plain SGD; by rank. ``weights`` and ``states`` go on with a run."""

    def work(ranks: ThreadedCommunicator) -> Course:
        model = Net().to(dtype)
        if weights is not None:
            torch.nn.utils.vector_to_parameters(weights.clone(), model.parameters())
        replica = WholeReplica(model, torch.device("cpu"), precision="fp32", bucket_mb=bucket_mb)
        context = SyncContext(ranks, max_grad_norm, num_steps or steps.stop)
        sync: SyncStrategy = make_strategy(settings, context, exact=False)
        sync.attach(replica)
        if states:
            sync.load_state_dict({n: value.clone() for state in states for n, value in state.items()})
        stepper = Recording(model)
        found, pending = Course(torch.empty(0)), []
        for step in steps:
            batch = global_batch(step, num_micro_batches)
            mine = assign([spec.cost for spec in batch.micro_batches], ranks.world_size)[ranks.rank]
            loaded = [micro_batch(step, position, dtype) for position in mine]
            for each in loaded if spoil is not None else []:
                assert spoil is not None
                spoil(step, each)
            sync.begin_step(batch, settle=step in settle_at)
            results = replica.forward_backward(loaded, on_bucket=sync.on_grad_ready)
            pending.append(sync.step(stepper, RankPart(results, busy_seconds=1.0, utterances=step)))
            found.consistent.append(sync.consistent_point())
            found.after.append(flat_weights(model))
            found.ready.append(sum(report.ready() for report in pending))
        found.weights, found.stepped = found.after[-1], stepper.stepped
        found.reports = [report.result() for report in pending if report.ready()]
        found.sync_state = {name: value.clone() for name, value in sync.state_dict().items()}
        return found

    return list(run_threads(num_ranks, work))


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Distance over the norm of ``b``."""
    return float((a - b).norm() / b.norm())
