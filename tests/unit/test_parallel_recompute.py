"""Blocks that run twice: the same gradients, and less kept in between."""

from __future__ import annotations

import pytest
import torch

from hocket.core.layout import Layout, Recompute
from hocket.core.work import MicroBatch
from hocket.model import ModelConfig, build
from hocket.parallel import apply
from hocket.parallel.recompute import Recomputing, kept_bytes
from hocket.parallel.whole import WholeReplica
from layouts import CONFIG, CPU, VOCAB_SIZE, course, micro_batch

LARGE = micro_batch(0, 0, torch.float32)


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    loss: torch.Tensor = model.loss(LARGE)  # type: ignore[operator]
    return loss


def test_gradients_and_dropout_are_the_same_bit_for_bit() -> None:
    plain, twice = course(Layout()), course(Layout(recompute="all"))
    assert plain.losses == twice.losses
    assert all(torch.equal(a[2], b[2]) for a, b in zip(plain.weights, twice.weights, strict=True))


def test_a_target_takes_as_few_blocks_as_it_needs() -> None:
    config = ModelConfig.model_validate({**CONFIG, "num_layers": 4, "intermediate_ctc": []}).with_tokens(
        VOCAB_SIZE
    )

    def kept(number: Recompute) -> int:
        model = build(config, 1)
        recomputing = Recomputing(model, number)
        return kept_bytes(model, lambda: loss_of(model)) + recomputing.input_bytes

    all_kept, two, inputs = kept(0), kept(2), kept(4)
    assert kept("all") < inputs < two < all_kept  # all: the subsampling, too
    for target, number in ((all_kept * 1.05, 0), (two * 1.02, 2), (inputs * 1.02, 4), (1e3, 5)):
        replica = apply(build(config, 1), Layout(recompute=f"{target / 1e6:f}MB"), CPU)
        assert isinstance(replica, WholeReplica)
        replica.fit_memory([LARGE])
        assert replica.recomputing is not None
        assert abs(replica.recomputing.number - number) <= (number == 2)
        assert float(torch.stack([bucket.flat.abs().max() for bucket in replica.buckets]).max()) == 0.0


@pytest.mark.parametrize("batches", [[], [MicroBatch(0, [], *[torch.zeros(0)] * 4)]])
def test_without_anything_to_measure_nothing_is_recomputed(batches: list[MicroBatch]) -> None:
    config = ModelConfig.model_validate(CONFIG).with_tokens(VOCAB_SIZE)
    replica = apply(build(config, 1), Layout(recompute="1MB"), CPU)
    assert isinstance(replica, WholeReplica) and replica.recomputing is not None
    replica.fit_memory(batches)
    assert replica.recomputing.number == 0
