"""The same few training steps under any layout, and what every rank then holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, get_args

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from hocket.batching import deal
from hocket.comms.communicator import Alone
from hocket.comms.mesh import Mesh
from hocket.core.errors import UsageError
from hocket.core.held import Box
from hocket.core.layout import AXES, Layout, Schedule
from hocket.core.protocols import RankPart, Replica
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.model import ModelConfig, build
from hocket.parallel import apply
from hocket.parallel.check import check
from hocket.sync.all_reduce import AllReduce
from hocket.sync.exact import ExactAllReduce
from hocket.training.probing import Probe

CPU = torch.device("cpu")
SIZES = ((67, 41, 9), (75, 30), (59, 59, 23))
"""Feature frames of the utterances of a step's micro-batches: three, so that of two or four groups one
has none in its last slot; odd; and one that ends within the first eighth."""
NUM_STEPS = 3
MAX_GRAD_NORM = 0.5
"""Far below the norms of these steps: all of them are clipped."""
PROBE_STEP = 1
"""At it micro-batches are looked at one by one, but for exact sums."""

CONFIG: dict[str, Any] = {
    "preset": "tiny",
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "ff_size": 64,
    "conv_kernel_size": 9,
    "subsampling_channels": 4,
    "intermediate_ctc": [1],
    "consistency": 0.2,
}
VOCAB_SIZE = 13
"""Not a multiple of any degree."""


@dataclass
class Course:
    """What one rank went through, and what it holds at the end of it."""

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gradients: list[list[tuple[str, Box, torch.Tensor]]] = field(default_factory=list)
    """Of each step, as boxes of whole parameters."""
    weights: list[tuple[str, Box, torch.Tensor]] = field(default_factory=list)
    best: list[list[int]] = field(default_factory=list)
    """The likeliest tokens of a validation micro-batch, where this rank's group had it."""
    eval_losses: list[float] = field(default_factory=list)
    layout: Layout = field(default_factory=Layout)
    sharded_between: bool = True
    """Whether parameters were sharded between two micro-batches of the probe step."""
    looked: tuple[int, float, float] | None = None
    """What a probe step saw."""
    units: list[tuple[int, torch.Tensor]] = field(default_factory=list)
    """Tokens and gradient of each micro-batch of that step, in one process."""


def course(
    layout: Layout,
    mesh: Mesh | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    exact: bool = False,
    **changes: Any,
) -> Course:
    """A few SGD steps with dropout, two views and an inner loss; clipped."""
    config = ModelConfig.model_validate({**CONFIG, **changes}).with_tokens(VOCAB_SIZE)
    replica = apply(build(config, 1).to(dtype), layout, CPU, mesh=mesh, bucket_mb=0.01)
    ranks = mesh.along("dp_replicate") if mesh else Alone()
    strategy = (ExactAllReduce if exact else AllReduce)(ranks, max_grad_norm=MAX_GRAD_NORM)
    strategy.attach(replica)
    optimiser = torch.optim.SGD([each.tensor for each in replica.held if each.trained], lr=0.1, fused=True)
    place = mesh.group if mesh else (0, 0)
    found = Course(layout=layout)
    for step in range(NUM_STEPS):
        loaded = [micro_batch(step, number, dtype) for number in range(len(SIZES))]
        batch = GlobalBatch(0, step, tuple(_spec(number, each) for number, each in enumerate(loaded)))
        dealt = deal([spec.cost for spec in batch.micro_batches], layout.dp_replicate, layout.dp_shard)
        mine = [empty(dtype) if position is None else loaded[position] for position in dealt.of(*place)]
        strategy.begin_step(batch, settle=False)
        probe = Probe(replica, mine) if step == PROBE_STEP and not exact else None
        if probe is not None:
            results = replica.forward_backward(mine, on_micro_batch=_look(replica, mine, probe, found))
            probe.fill()
            for bucket in replica.buckets:
                strategy.on_grad_ready(bucket)
        else:
            results = replica.forward_backward(
                mine,
                on_bucket=None if strategy.per_micro_batch else strategy.on_grad_ready,
                on_micro_batch=strategy.on_micro_batch if strategy.per_micro_batch else None,
            )
        report = strategy.step(
            optimiser, RankPart(results, utterances=sum(len(m.ids) for m in mine))
        ).result()
        assert report.utterances == sum(len(sizes) for sizes in SIZES)
        if probe is not None:
            found.looked = probe.send(ranks).result()
        found.losses.append(report.loss_sum)
        found.norms.append(report.grad_norm)
        found.gradients.append(list(_gradients(replica)))
    found.weights = [
        (each.name, box, piece.detach().clone())
        for each in replica.held
        for box, piece in each.place.pieces(each.tensor)
    ]
    _evaluate(replica, place[1], found, dtype)
    return found


def _look(replica: Replica, mine: Sequence[MicroBatch], probe: Probe, found: Course) -> Callable[[int], None]:
    def look(position: int) -> None:
        probe.add_up(position)
        found.sharded_between &= any(isinstance(each, DTensor) for each in replica.model.parameters())
        if found.layout.world_size == 1:
            flat = torch.cat([bucket.flat.double() for bucket in replica.buckets])
            found.units.append((int(mine[position].token_lens_B.sum()), flat))

    return look


def expected_look(layout: Layout, units: Sequence[tuple[int, torch.Tensor]]) -> tuple[int, float, float]:
    """Samples, their tokens and their squared norms over tokens: groups of a replica add theirs up."""
    dealt = deal([1.0 + number for number in range(len(units))], layout.dp_replicate, layout.dp_shard)
    num, weights, squares = 0, 0, 0.0
    for replica in range(layout.dp_replicate):
        for slot in zip(*(dealt.of(replica, group) for group in range(layout.dp_shard)), strict=True):
            tokens = sum(units[position][0] for position in slot if position is not None)
            if tokens:
                total = sum(units[position][1] for position in slot if position is not None)
                num, weights = num + 1, weights + tokens
                squares += float(torch.as_tensor(total).square().sum()) / tokens
    return num, weights, squares


def courses(given: Sequence[tuple[Layout, dict[str, Any]]]) -> list[Course]:
    """One after the other, in a process of a group."""
    return [course(layout, Mesh(layout, CPU), **how) for layout, how in given]


def of_four() -> list[Layout]:
    """Every layout of four ranks, and every schedule of a pipeline."""
    config = ModelConfig.model_validate(CONFIG).with_tokens(VOCAB_SIZE)
    found = []
    for degrees in product((1, 2, 4), repeat=len(AXES)):
        layout = Layout(**dict(zip(AXES, degrees, strict=True)))
        if layout.world_size != 4:
            continue
        for schedule in get_args(Schedule) if layout.pp > 1 else ("1f1b",):
            layout = Layout(**{**dict(zip(AXES, degrees, strict=True)), "schedule": schedule})
            try:
                check(layout, config)
            except UsageError:
                continue
            found.append(layout)
    return found


def compare(ranks: Sequence[Course], alone: Course, tolerance: float = 1e-9) -> None:
    """All ranks' losses, norms, gradients and weights are those of one process, and nothing is missing."""
    for found in ranks:
        for ours, theirs in ((found.losses, alone.losses), (found.norms, alone.norms)):
            assert np.allclose(ours, theirs, rtol=tolerance, atol=0.0), (ours, theirs)
        if found.looked is not None:
            assert np.allclose(found.looked, expected_look(found.layout, alone.units), rtol=4 * tolerance)
    for step, expected in enumerate(alone.gradients):
        _covers([found.gradients[step] for found in ranks], expected, tolerance)
    _covers([found.weights for found in ranks], alone.weights, tolerance)
    best = [found.best for found in ranks if found.best]
    assert best and all(each == alone.best for each in best)
    for found in ranks:
        if found.best:
            assert np.allclose(found.eval_losses, alone.eval_losses, rtol=tolerance)


def _covers(
    ranks: Sequence[Sequence[tuple[str, Box, torch.Tensor]]],
    whole: Sequence[tuple[str, Box, torch.Tensor]],
    tolerance: float,
) -> None:
    values = {name: value for name, _, value in whole}
    norm = float(torch.stack([value.double().norm() for value in values.values()]).norm())
    seen = {name: torch.zeros(value.shape, dtype=torch.bool) for name, value in values.items()}
    error = 0.0
    for pieces in ranks:
        for name, box, piece in pieces:
            box.of(seen[name]).fill_(True)
            error += float((piece - box.of(values[name])).double().square().sum())
    assert error**0.5 <= tolerance * norm, error**0.5 / norm
    missing = [name for name, mask in seen.items() if not mask.all()]
    assert not missing, missing


def _gradients(replica: Replica) -> Iterator[tuple[str, Box, torch.Tensor]]:
    places = {each.name: each.place for each in replica.held}
    for bucket in replica.buckets:
        for name, view in bucket.views(bucket.flat):
            for box, piece in places[name].pieces(view):
                yield name, box, piece.clone()


def _evaluate(replica: Replica, group: int, found: Course, dtype: torch.dtype) -> None:
    """One group of each replica recognises something, the others have nothing."""
    replica.model.eval()
    given = micro_batch(9, 0, dtype, num_views=1) if group == 0 else empty(dtype)
    told = replica.evaluate(given)
    replica.model.train()
    if told is not None:
        found.best = [row[:length].tolist() for row, length in zip(told.best_BT, told.lens_B, strict=True)]
        found.eval_losses = told.losses_B.tolist()


def micro_batch(step: int, number: int, dtype: torch.dtype, num_views: int = 2) -> MicroBatch:
    """Random features and texts; repeated tokens among them."""
    draw = torch.Generator().manual_seed(10 * step + number)
    sizes = SIZES[number]
    token_lens_B = torch.tensor([max(1, size // 16) for size in sizes])
    tokens_BU = torch.randint(0, 3, (len(sizes), int(token_lens_B.max())), generator=draw)
    tokens_BU[:, ::2] += 8
    return MicroBatch(
        index=number,
        ids=[f"{step}-{number}-{row}" for row in range(len(sizes))],
        features_BTF=torch.randn(num_views * len(sizes), max(sizes), 80, generator=draw).to(dtype),
        feature_lens_B=torch.tensor(sizes),
        tokens_BU=tokens_BU,
        token_lens_B=token_lens_B,
        dropout_key=100 * step + number,
        num_views=num_views,
    )


def empty(dtype: torch.dtype) -> MicroBatch:
    """A slot without work."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return MicroBatch(
        -1, [], torch.zeros((0, 0, 80), dtype=dtype), nothing, nothing[:, None], nothing, num_views=2
    )


def _spec(number: int, each: MicroBatch) -> MicroBatchSpec:
    rows = np.arange(len(each.ids))
    tokens = int(each.token_lens_B.sum())
    return MicroBatchSpec(number, rows, rows, max(SIZES[number]), 1, sum(SIZES[number]), tokens, 1.0 + number)
