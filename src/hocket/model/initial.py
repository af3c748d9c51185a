"""The first value of every parameter, a function of (seed, name): the same under any layout."""

from __future__ import annotations

from math import prod, sqrt

import torch
from torch import Tensor, nn

from hocket.core import seeds


def initialise(model: nn.Module, seed: int) -> None:
    """Draw all parameters of ``model`` in place."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw(name, parameter.shape, seed))


def draw(name: str, shape: torch.Size, seed: int) -> Tensor:
    """The first value of the parameter ``name``, float32 on the CPU.

    Matrices and kernels are uniform within ``fan_in ** -0.5``; scales of norms are 1; biases are 0.
    """
    if name.endswith("bias") or name.endswith(("bias_u", "bias_v")):
        return torch.zeros(shape)
    if len(shape) == 1:
        return torch.ones(shape)
    bound = 1.0 / sqrt(prod(shape[1:]))
    generator = torch.Generator().manual_seed(seeds.key("init", seed, name) >> 1)
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)
