"""One utterance over ranks that are threads here: the loss and gradients of the model that is not split."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.errors import UsageError
from hocket.core.work import MicroBatch
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.parallel.sequence import SplitTime, split_sequence
from sequences import CASES, batch_of, learn, learn_share, model_of


@pytest.mark.parametrize("num_ranks", [2, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_shares_add_up_to_the_gradient_of_the_whole(num_ranks: int, case: str) -> None:
    loss, gradient = learn(case)
    shares = run_threads(num_ranks, lambda ranks: learn_share(case, ranks))
    for told, _ in shares:
        torch.testing.assert_close(told, loss, rtol=1e-11, atol=0)
    total = torch.stack([share for _, share in shares]).sum(0)
    assert float((total - gradient).norm() / gradient.norm()) < 1e-10
    assert min(float(share.norm()) for _, share in shares) < float(gradient.norm())


def in_turn(num_ranks: int, num_frames: int, work: Callable[[SplitTime, ThreadedCommunicator], Any]) -> Any:
    return run_threads(num_ranks, lambda ranks: work(SplitTime(ranks, num_frames), ranks))


@pytest.mark.parametrize("num_ranks, num_frames", [(2, 9), (4, 6), (4, 4), (3, 2)])
@pytest.mark.parametrize("before, after", [(2, 1), (0, 3), (7, 7)])
def test_a_halo_reaches_over_as_many_ranks_as_it_must(
    num_ranks: int, num_frames: int, before: int, after: int
) -> None:
    """Slices of one frame, too; the gradient of a frame is the sum over all who heard it."""
    total = max(num_frames, num_ranks)

    def work(part: SplitTime, ranks: ThreadedCommunicator) -> tuple[list[int], list[float]]:
        own = torch.arange(part.span.first, part.span.end).double()
        x = own[None, :, None].repeat(2, 1, 3).requires_grad_()
        y = part.halo(x, 1, before, after)
        (y * (ranks.rank + 1)).sum().backward()
        assert x.grad is not None
        return y[1, :, 2].int().tolist(), x.grad[0, :, 0].tolist()

    found = in_turn(num_ranks, num_frames, work)
    spans = in_turn(num_ranks, num_frames, lambda part, ranks: (part.span.first, part.span.end))
    heard = [range(max(0, first - before), min(total, end + after)) for first, end in spans]
    for (frames, grads), mine, (first, end) in zip(found, heard, spans, strict=True):
        assert frames == list(mine)
        assert grads == [sum(r + 1 for r, h in enumerate(heard) if frame in h) for frame in range(first, end)]


def test_frames_are_gathered_in_order_on_all() -> None:
    def work(part: SplitTime, ranks: ThreadedCommunicator) -> list[int]:
        own = torch.arange(part.span.first, part.span.end)
        return part.gather(own[None, :, None])[0, :, 0].tolist()

    assert in_turn(4, 11, work) == [list(range(11))] * 4


def test_no_rank_keeps_more_than_its_part(num_frames: int = 640) -> None:
    """What a layer keeps for the backward pass, of a model whose attention sees everything."""

    def kept(ranks: ThreadedCommunicator | None) -> int:
        model, batch = model_of("long"), batch_of([4 * num_frames], [3])
        if ranks is not None:
            split_sequence(model, ranks)
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        storages = {}

        def pack(x: torch.Tensor) -> torch.Tensor:
            storage = x.untyped_storage()
            if storage.data_ptr() not in own:
                storages[storage.data_ptr()] = storage.nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model.loss(batch)
        return sum(storages.values())

    whole = kept(None)
    assert max(run_threads(4, kept)) < 0.3 * whole


def test_what_has_no_time_cannot_be_split_along_it() -> None:
    with pytest.raises(UsageError, match="sp"):
        run_threads(1, lambda ranks: split_sequence(torch.nn.Linear(2, 2), ranks))


def test_a_split_model_says_what_the_whole_one_says() -> None:
    """Scores of every frame, gathered, in evaluation mode."""
    batch: MicroBatch = batch_of([131, 40], [3, 2])

    def scores(ranks: ThreadedCommunicator) -> torch.Tensor:
        model = model_of("plain").eval()
        split_sequence(model, ranks)
        with torch.no_grad():
            part, lens = model(batch.features_BTF, batch.feature_lens_B)
        assert lens.tolist() == [33, 10]
        return SplitTime(ranks, 33).gather(part)

    with torch.no_grad():
        whole, _ = model_of("plain").eval()(batch.features_BTF, batch.feature_lens_B)
    for found in run_threads(3, scores):
        torch.testing.assert_close(found[0], whole[0], rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(found[1, :10], whole[1, :10], rtol=1e-10, atol=1e-11)


def test_layers_of_published_models_are_split_too() -> None:
    """8-fold subsampling, frozen batch norm, inputs scaled, no biases."""
    config = ModelConfig.model_validate(
        {
            **model_of("plain").config.model_dump(),
            "subsampling_factor": 8,
            "conv_norm": "frozen_batch_norm",
            "scale_input": True,
            "attention_bias": False,
            "conv_bias": False,
        }
    )

    def made() -> FastConformerCTC:
        return build(config, 4).double()

    batch = batch_of([203, 77], [4, 1])
    whole = made().loss(batch)

    def loss(ranks: ThreadedCommunicator) -> torch.Tensor:
        model = made()
        split_sequence(model, ranks)
        return model.loss(batch)

    for found in run_threads(4, loss):
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=0)
