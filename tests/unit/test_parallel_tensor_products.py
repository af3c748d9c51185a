"""The first product of a split region: the gradient of one process, and a sum that does not hold it up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from hocket.comms.communicator import Alone, Communicator, run_threads
from hocket.parallel.tensor_products import first_product


def given(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, and the weight and bias of all ranks."""
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randn(*shape, generator=draw).to(dtype) for shape in ((2, 5, 8), (6, 8), (6,)))


def gradients(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, ranks: Communicator | None
) -> tuple[torch.Tensor, ...]:
    """Of frames, weight and bias, of a loss that looks at all outputs; without ``ranks`` by torch's own."""
    leaves = [each.clone().requires_grad_() for each in (x, weight, bias)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=x.dtype == torch.float32):
        y = F.linear(*leaves) if ranks is None else first_product(*leaves, ranks)
    y.float().square().sum().backward()
    return tuple(each.grad for each in leaves)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])  # float32: under bf16
def test_gradients_are_those_of_the_whole(dtype: torch.dtype) -> None:
    x, weight, bias = given(dtype)
    whole = gradients(x, weight, bias, None)
    parts = run_threads(
        2, lambda ranks: gradients(x, weight.chunk(2)[ranks.rank], bias.chunk(2)[ranks.rank], ranks)
    )
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 0.02, "atol": 0.5}
    for of_rank in parts:
        torch.testing.assert_close(of_rank[0], whole[0], **close)
    for place in (1, 2):
        torch.testing.assert_close(torch.cat([of_rank[place] for of_rank in parts]), whole[place], **close)


class Logged(Alone):
    """Says when a sum is started and when it is waited for."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def all_reduce(self, tensor: torch.Tensor) -> Any:
        """One rank's sum."""
        self._log.append("sum starts")
        return self

    def wait(self) -> None:
        """It is wanted."""
        self._log.append("sum is waited for")


class Products(TorchDispatchMode):
    """Logs matrix products."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self._log = log

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.bmm):
            self._log.append("product")
        return func(*args, **(kwargs or {}))


def test_the_weights_gradient_is_computed_while_the_sum_is_under_way() -> None:
    log: list[str] = []
    x, weight, bias = (each.requires_grad_() for each in given(torch.float64))
    y = first_product(x, weight, bias, Logged(log))
    with Products(log):
        y.sum().backward()
    assert log == ["product", "sum starts", "product", "sum is waited for"]
