"""What a replica leaves in its buckets."""

from __future__ import annotations

import pytest
import torch

from hocket.core.work import MicroBatch
from hocket.parallel.whole import WholeReplica


class Halves(torch.nn.Module):
    """The loss of a micro-batch uses ``often``, and ``seldom`` only when the dropout key is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.often = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        self.seldom = torch.nn.Parameter(torch.tensor([3.0]))

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        loss = (self.often * batch.features_BTF[0, 0]).sum()
        return loss + 10 * self.seldom.sum() if batch.dropout_key == 1 else loss


def micro_batch(*features: float, key: int = 0, ids: tuple[str, ...] = ("a",)) -> MicroBatch:
    features_BTF = torch.tensor([[features]])
    ones_B = torch.ones(1, dtype=torch.int64)
    return MicroBatch(0, list(ids), features_BTF, ones_B, ones_B[:, None], ones_B, dropout_key=key)


def held(replica: WholeReplica) -> dict[str, list[float]]:
    return {name: view.tolist() for bucket in replica.buckets for name, view in bucket.views(bucket.flat)}


@pytest.fixture
def replica() -> WholeReplica:
    return WholeReplica(Halves(), torch.device("cpu"), precision="fp32", bucket_mb=1e-6)


def test_gradients_of_micro_batches_add_up_and_replace_those_of_the_step_before(
    replica: WholeReplica,
) -> None:
    for _ in range(2):
        replica.forward_backward([micro_batch(1.0, 2.0), micro_batch(3.0, 4.0, key=1)])
        assert held(replica) == {"often": [4.0, 6.0], "seldom": [10.0]}


def test_parameters_that_took_no_part_have_no_gradient_of_an_earlier_step(replica: WholeReplica) -> None:
    sent: list[list[float]] = []
    replica.forward_backward([micro_batch(1.0, 2.0, key=1)])
    replica.forward_backward([micro_batch(3.0, 4.0)], on_bucket=lambda b: sent.append(b.flat.tolist()))
    assert held(replica) == {"often": [3.0, 4.0], "seldom": [0.0]}
    assert sent == [[0.0], [3.0, 4.0]]


@pytest.mark.parametrize("given", [[], [micro_batch(5.0, 5.0, ids=())]])
def test_without_work_all_gradients_are_zero(replica: WholeReplica, given: list[MicroBatch]) -> None:
    replica.forward_backward([micro_batch(1.0, 2.0, key=1)])
    assert replica.forward_backward(given) == []
    assert held(replica) == {"often": [0.0, 0.0], "seldom": [0.0]}


def test_one_micro_batch_at_a_time_the_buckets_hold_its_gradient_alone(replica: WholeReplica) -> None:
    seen: list[dict[str, list[float]]] = []
    given = [micro_batch(1.0, 2.0, key=1), micro_batch(3.0, 4.0)]
    replica.forward_backward(given, on_micro_batch=lambda _position: seen.append(held(replica)))
    assert seen == [{"often": [1.0, 2.0], "seldom": [10.0]}, {"often": [3.0, 4.0], "seldom": [0.0]}]


def test_an_optimiser_sees_what_the_buckets_hold(replica: WholeReplica) -> None:
    replica.forward_backward([micro_batch(1.0, 2.0)])
    for bucket in replica.buckets:
        bucket.flat.mul_(0.5)
    torch.optim.SGD(replica.model.parameters(), lr=1.0).step()
    assert replica.model.get_parameter("often").tolist() == [0.5, 1.0]
