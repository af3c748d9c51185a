"""The first and the last product of a region that is split over ranks, and the sums at its two ends.

A region takes whole frames in, the same on every rank, and gives whole frames out. Its last product is over
some inputs: every rank has a part of the sum. Its first product is over some outputs: on the way back every
rank has a part of the frames' gradient, and the weight's gradient is computed while those parts are added up
(Megatron-LM, Narayanan et al., SC 2021, arXiv:2104.04473).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.comms.communicator import Communicator


def split_first(layer: Any, ranks: Communicator) -> None:
    """Have the first linear layer of a region, over some outputs, begin the region."""

    def forward(x: Tensor) -> Tensor:
        return first_product(x, layer.weight.flatten(1), layer.bias, ranks)

    layer.forward = forward


def first_product(x: Tensor, weight_CD: Tensor, bias_C: Tensor | None, ranks: Communicator) -> Tensor:
    """``F.linear`` of frames that are the same on every rank, whose gradient is the sum over ranks."""
    y: Tensor = _First.apply(x, weight_CD, bias_C, ranks)  # type: ignore[no-untyped-call]
    return y


def split_last(layer: Any, ranks: Communicator) -> None:
    """Have the last linear layer of a region, over some inputs, give the sum; its bias is added once."""

    def forward(x: Tensor) -> Tensor:
        part = F.linear(x, layer.weight.flatten(1))
        whole: Tensor = _Last.apply(part, ranks)  # type: ignore[no-untyped-call]
        return whole if layer.bias is None else whole + layer.bias.to(whole.dtype)

    layer.forward = forward


def enter_at(region: nn.Module, ranks: Communicator) -> None:
    """Begin a region where its frames come in, whatever takes them."""

    def entering(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        return _Enter.apply(given[0], ranks), *given[1:]  # type: ignore[no-untyped-call]

    region.register_forward_pre_hook(entering)


def _adding_up(part: Tensor, ranks: Communicator) -> Callable[[], Tensor]:
    """Start the sum over ranks, in ``part`` itself; what gives it, in the same type.

    Narrow types are added in float32.
    """
    exact = part.dtype in (torch.float32, torch.float64)
    total = (part if exact else part.float()).contiguous()
    handle = ranks.all_reduce(total)

    def whole() -> Tensor:
        handle.wait()
        return total.to(part.dtype)

    return whole


class _First(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_CD: Tensor, bias_C: Tensor | None, ranks: Communicator) -> Tensor:
        ctx.ranks, ctx.dtypes = ranks, (x.dtype, weight_CD.dtype)
        kind = x.device.type
        if torch.is_autocast_enabled(kind):  # what is kept is what was multiplied
            narrow = torch.get_autocast_dtype(kind)
            x, weight_CD = x.to(narrow), weight_CD.to(narrow)
            bias_C = None if bias_C is None else bias_C.to(narrow)
        ctx.save_for_backward(x, weight_CD)
        return F.linear(x, weight_CD, bias_C)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight_CD = ctx.saved_tensors
        of_frames, of_weight = ctx.dtypes
        whole = _adding_up(grads[0] @ weight_CD, ctx.ranks)
        grad_NC = grads[0].flatten(0, -2)
        by_weight = by_bias = None
        if ctx.needs_input_grad[1]:
            by_weight = (grad_NC.t() @ x.flatten(0, -2)).to(of_weight)
        if ctx.needs_input_grad[2]:
            by_bias = grad_NC.sum(0).to(of_weight)
        return whole().to(of_frames), by_weight, by_bias, None


class _Enter(torch.autograd.Function):
    """The same frames for every rank; their gradient is the sum of what each rank finds."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Communicator) -> Tensor:
        ctx.ranks = ranks
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _adding_up(grads[0].clone(), ctx.ranks)(), None


class _Last(torch.autograd.Function):
    """The sum of all ranks' parts; the gradient of each part is that of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Communicator) -> Tensor:
        return _adding_up(x.clone(), ranks)()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None
