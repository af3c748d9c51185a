"""Tensor parallelism: every rank holds some heads, channels and tokens of every layer.

What is split how stands in the model's table (:mod:`hocket.model.sharding`). A region (feed-forward,
attention, convolution, head) takes whole hidden frames in, the same on every rank, and gives whole ones
out. Within it each rank works on its own channels: the first matrix by output (column), the last by input
(row), and one sum over the ranks at the end; on the way back one sum at the beginning (Megatron-LM,
Shoeybi et al., 2019, arXiv:1909.08053). The layer norm within the convolution is over all channels: ranks
tell each other the mean and the spread of theirs, two numbers a frame.

What is not split (norms of hidden frames, the subsampling, biases after a sum) is computed by every rank
alike, so that its gradient is the same on all without being sent.

Shape suffixes: B utterances, T frames, C channels of this rank, N ranks.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hocket.comms.communicator import Communicator
from hocket.core.held import Box, Place
from hocket.model.attention import RelativeAttention
from hocket.model.convolution import ConvolutionModule
from hocket.model.feed_forward import FeedForward
from hocket.model.sharding import Split, regions, split_of, table
from hocket.parallel.tensor_products import enter_at, first_product, split_first, split_last
from hocket.parallel.vocabulary import SplitVocabulary


def split_tensor(model: nn.Module, ranks: Communicator) -> dict[str, Place]:
    """Leave this rank's share of ``model`` in it, and have its regions meet the others'.

    Returns what is held of every parameter and buffer that was split, by name. The model must be the
    same on all ``ranks``.
    """
    if ranks.world_size == 1:
        return {}
    rows = table(model.config)  # type: ignore[arg-type]
    places: dict[str, Place] = {}
    for named in (model.named_parameters(), model.named_buffers()):
        for name, tensor in named:
            split = split_of(name, rows)
            if split.dim is None:
                continue
            places[name] = place_of(split, tuple(tensor.shape), ranks.rank, ranks.world_size)
            tensor.data = places[name].cut(tensor.data).clone()
            if split.kind == "row":
                split_last(model.get_submodule(name.rpartition(".")[0]), ranks)
    for name in regions(model.config):  # type: ignore[arg-type]
        _begin(model.get_submodule(name), ranks)
    for name, module in model.named_modules():
        if isinstance(module, nn.LayerNorm) and f"{name}.weight" in places:
            module.forward = partial(_split_layer_norm, module, ranks)  # type: ignore[method-assign]
        if hasattr(module, "first_channel"):
            module.first_channel = places[f"{name}.linear1.weight"].boxes[0].offsets[0]
    head = places["ctc_head.weight"].boxes[0]
    model.vocabulary = SplitVocabulary(ranks, head.offsets[0], head.sizes[0])  # type: ignore[assignment]
    return places


def place_of(split: Split, shape: tuple[int, ...], rank: int, num_ranks: int) -> Place:
    """What ``rank`` of ``num_ranks`` holds of a tensor of this shape."""
    assert split.dim is not None
    halves = 2 if split.kind == "gated_channel" else 1
    size = shape[split.dim] // halves
    start, stop = (size * each // num_ranks for each in (rank, rank + 1))
    boxes = []
    for half in range(halves):
        offsets, sizes = [0] * len(shape), list(shape)
        offsets[split.dim], sizes[split.dim] = half * size + start, stop - start
        boxes.append(Box(tuple(offsets), tuple(sizes)))
    return Place(shape, tuple(boxes))


def _begin(region: nn.Module, ranks: Communicator) -> None:
    """Begin a region, at its first product where that is known."""
    match region:
        case FeedForward():
            split_first(region.linear1, ranks)
        case ConvolutionModule():
            split_first(region.pointwise_conv1, ranks)
        case RelativeAttention():
            region.product = partial(first_product, ranks=ranks)
        case _:
            enter_at(region, ranks)


def _split_layer_norm(norm: nn.LayerNorm, ranks: Communicator, x_BTC: Tensor) -> Tensor:
    y_BTC: Tensor = _LayerNorm.apply(x_BTC, norm.weight, norm.bias, norm.eps, ranks)  # type: ignore[no-untyped-call]
    return y_BTC


class _LayerNorm(torch.autograd.Function):
    """Layer norm over the channels of all ranks, each holding equally many.

    Means and sums of squared distances from them are put together as in Chan, Golub & LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances", 1979: nothing cancels.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BTC: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float, ranks: Communicator
    ) -> Tensor:
        wide_BTC = x_BTC if x_BTC.dtype == torch.float64 else x_BTC.float()
        mean_BT1 = wide_BTC.mean(-1, keepdim=True)
        spread_BT1 = (wide_BTC - mean_BT1).square_().sum(-1, keepdim=True)
        means, spreads = torch.stack(ranks.all_gather(torch.stack((mean_BT1, spread_BT1))), 1)
        mean_BT1 = means.mean(0)
        num_channels = x_BTC.shape[-1] * ranks.world_size
        between_BT1 = (means - mean_BT1).square_().sum(0) * x_BTC.shape[-1]
        scale_BT1 = torch.rsqrt((spreads.sum(0) + between_BT1) / num_channels + eps)
        normal_BTC = (wide_BTC - mean_BT1).mul_(scale_BT1)
        ctx.save_for_backward(normal_BTC, scale_BT1, weight_C)
        ctx.ranks, ctx.num_channels, ctx.dtype = ranks, num_channels, x_BTC.dtype
        return torch.addcmul(bias_C, normal_BTC, weight_C).to(x_BTC.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        normal_BTC, scale_BT1, weight_C = ctx.saved_tensors
        grad_BTC = grads[0].to(normal_BTC.dtype)
        by_normal_BTC = grad_BTC * normal_BTC
        grad_bias_C, grad_weight_C = grad_BTC.sum((0, 1)), by_normal_BTC.sum((0, 1))
        wide_C = weight_C.to(grad_BTC.dtype)
        sums = torch.stack((grad_BTC @ wide_C, by_normal_BTC @ wide_C))
        ctx.ranks.all_reduce(sums).wait()
        of_grad_BT1, of_normal_BT1 = (sums / ctx.num_channels)[..., None]
        grad_x_BTC = (grad_BTC * wide_C - of_grad_BT1).addcmul_(normal_BTC, of_normal_BT1, value=-1)
        return grad_x_BTC.mul_(scale_BT1).to(ctx.dtype), grad_weight_C, grad_bias_C, None, None
