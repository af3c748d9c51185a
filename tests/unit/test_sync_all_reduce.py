"""Synchronous strategies on a small model, all ranks as threads: the same step for any dealing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from hocket.batching import assign
from hocket.comms.communicator import Communicator, ThreadedCommunicator, run_threads
from hocket.core.protocols import RankPart, StepReport, SyncStrategy
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.parallel.whole import WholeReplica
from hocket.sync.all_reduce import AllReduce
from hocket.sync.exact import ExactAllReduce

NUM_MICRO_BATCHES = 6


class Toy(torch.nn.Module):
    """A loss that is a sum over utterances, like the real one; one parameter never takes part."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.first = torch.nn.Parameter(torch.randn(5, 7, generator=draw))
        self.unused = torch.nn.Parameter(torch.randn(4, generator=draw))
        self.second = torch.nn.Parameter(torch.randn(7, generator=draw))

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        return ((batch.features_BTF @ self.first).tanh() @ self.second).square().sum()


def micro_batch(index: int, scale: float = 1.0) -> MicroBatch:
    draw = torch.Generator().manual_seed(index)
    size = 1 + index % 3
    return MicroBatch(
        index=index,
        ids=[f"utterance-{index}-{n}" for n in range(size)],
        features_BTF=scale * torch.randn(size, 4 + index, 5, generator=draw),
        feature_lens_B=torch.full((size,), 4 + index),
        tokens_BU=torch.zeros((size, 1), dtype=torch.int64),
        token_lens_B=torch.ones(size, dtype=torch.int64),
    )


def global_batch() -> GlobalBatch:
    specs = []
    for index in range(NUM_MICRO_BATCHES):
        size = 1 + index % 3
        rows = np.arange(size)
        specs.append(
            MicroBatchSpec(index, rows, rows, 4 + index, 1, size * (4 + index), 3 * size, 1.0 + index)
        )
    return GlobalBatch(0, 0, tuple(specs))


Make = Callable[[Communicator], SyncStrategy]


def all_reduce(ranks: Communicator) -> SyncStrategy:
    return AllReduce(ranks, max_grad_norm=0.5)


def exact(ranks: Communicator) -> SyncStrategy:
    return ExactAllReduce(ranks, max_grad_norm=0.5)


def train(
    make: Make,
    num_ranks: int,
    *,
    dtype: torch.dtype = torch.float64,
    steps: int = 3,
    spoil: Callable[[int, MicroBatch], None] | None = None,
    optimiser: type[torch.optim.Optimizer] = torch.optim.SGD,
) -> tuple[list[torch.Tensor], list[StepReport]]:
    def work(ranks: ThreadedCommunicator) -> tuple[list[torch.Tensor], list[StepReport]]:
        model = Toy().to(dtype)
        replica = WholeReplica(model, torch.device("cpu"), precision="fp32", bucket_mb=1e-4)
        assert len(replica.buckets) > 1
        strategy = make(ranks)
        strategy.attach(replica)
        stepper = optimiser(model.parameters(), lr=0.1, fused=True)  # type: ignore[call-arg]
        reports = []
        for step in range(steps):
            batch = global_batch()
            mine = assign([spec.cost for spec in batch.micro_batches], ranks.world_size)[ranks.rank]
            loaded = [micro_batch(position) for position in mine]
            for each in loaded:
                each.features_BTF = each.features_BTF.to(dtype)
                if spoil is not None:
                    spoil(step, each)
            strategy.begin_step(batch, settle=False)
            results = replica.forward_backward(
                loaded,
                on_bucket=None if strategy.per_micro_batch else strategy.on_grad_ready,
                on_micro_batch=strategy.on_micro_batch if strategy.per_micro_batch else None,
            )
            part = RankPart(results, float(ranks.rank), num_dropped=1, utterances=10, stop=ranks.rank == 1)
            reports.append(strategy.step(stepper, part).result())
        return [parameter.detach().clone() for parameter in model.parameters()], reports

    return run_threads(num_ranks, work)[0]


@pytest.mark.parametrize("make", [all_reduce, exact])
@pytest.mark.parametrize("num_ranks", [2, 3, 4, 8])
def test_any_number_of_ranks_takes_the_same_steps(make: Make, num_ranks: int) -> None:
    alone, reports_alone = train(make, 1)
    together, reports = train(make, num_ranks)
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    for one, many in zip(reports_alone, reports, strict=True):
        assert many.loss_sum == pytest.approx(one.loss_sum, rel=1e-9)
        assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-9)


@pytest.mark.parametrize("num_ranks", [2, 3, 5, 8])
def test_exact_is_the_same_bit_for_bit_in_float32_under_adam(num_ranks: int) -> None:
    alone, reports_alone = train(exact, 1, dtype=torch.float32, optimiser=torch.optim.AdamW)
    together, reports = train(exact, num_ranks, dtype=torch.float32, optimiser=torch.optim.AdamW)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))
    assert [r.loss_sum for r in reports] == [r.loss_sum for r in reports_alone]
    assert [r.grad_norm for r in reports] == [r.grad_norm for r in reports_alone]


def test_exact_agrees_with_plain_all_reduce() -> None:
    plain, plain_reports = train(all_reduce, 2)
    integer, integer_reports = train(exact, 2)
    for a, b in zip(plain, integer, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
    assert integer_reports[0].grad_norm == pytest.approx(plain_reports[0].grad_norm, rel=1e-9)


def test_clipping_bounds_the_step() -> None:
    before = [parameter.detach().double() for parameter in Toy().parameters()]
    after, reports = train(all_reduce, 2, steps=1)
    moved = torch.cat([(a - b).reshape(-1) for a, b in zip(after, before, strict=True)])
    assert reports[0].grad_norm > 0.5
    assert float(moved.norm()) == pytest.approx(0.1 * 0.5, rel=1e-6)


@pytest.mark.parametrize("make", [all_reduce, exact])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_that_is_not_finite_is_skipped_by_all_and_the_next_one_is_taken(
    make: Make, value: float
) -> None:
    def spoil(step: int, batch: MicroBatch) -> None:
        if step == 0 and batch.index == 4:
            batch.features_BTF[0, 0, 0] = value

    weights, reports = train(make, 3, steps=2, spoil=spoil)
    clean, _ = train(make, 3, steps=1)
    assert [report.skipped for report in reports] == [True, False]
    for a, b in zip(weights, clean, strict=True):
        torch.testing.assert_close(a, b)


def test_exact_skips_what_would_overflow_its_integers() -> None:
    def spoil(step: int, batch: MicroBatch) -> None:
        if step == 0 and batch.index == 2:
            batch.features_BTF *= 0
            batch.features_BTF += 1e12

    toy_is_flat_there, reports = train(exact, 2, steps=1, spoil=spoil)
    assert not reports[0].skipped  # tanh is flat: gradients stay small
    assert all(weight.isfinite().all() for weight in toy_is_flat_there)

    class Steep(Toy):
        def loss(self, batch: MicroBatch) -> torch.Tensor:
            return 1e9 * super().loss(batch)

    replica = WholeReplica(Steep(), torch.device("cpu"), precision="fp32", bucket_mb=4.0)

    def work(ranks: ThreadedCommunicator) -> StepReport:
        strategy = exact(ranks)
        strategy.attach(replica)
        strategy.begin_step(global_batch(), settle=False)
        results = replica.forward_backward([micro_batch(0)], on_micro_batch=strategy.on_micro_batch)
        stepper = torch.optim.SGD(replica.model.parameters(), lr=0.1, fused=True)
        return strategy.step(stepper, RankPart(results)).result()

    assert run_threads(1, work)[0].skipped


@pytest.mark.parametrize("make", [all_reduce, exact])
def test_what_ranks_tell_each_other_adds_up(make: Make) -> None:
    _, reports = train(make, 3, steps=1)
    assert reports[0].num_dropped == 3
    assert reports[0].utterances == 30
    assert reports[0].stop
    assert reports[0].busy_seconds == (0.0, 1.0, 2.0)
    assert not train(make, 1, steps=1)[1][0].stop


def test_buckets_are_sent_in_one_order_on_every_rank_also_without_work() -> None:
    def work(ranks: ThreadedCommunicator) -> list[int]:
        replica = WholeReplica(Toy(), torch.device("cpu"), precision="fp32", bucket_mb=1e-5)
        sent: list[int] = []
        mine = [micro_batch(0), micro_batch(1)] if ranks.rank == 0 else []
        replica.forward_backward(mine, on_bucket=lambda bucket: sent.append(bucket.index))
        return sent

    orders = run_threads(2, work)
    assert orders[0] == orders[1] == sorted(orders[0])
    assert len(orders[0]) == 3
