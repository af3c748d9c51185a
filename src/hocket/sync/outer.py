"""Outer optimisers: what replicas make of the mean way that they went by themselves.

The *pseudogradient* is the mean over replicas of (weights at the last agreement - weights now): going
against it by one leads to the mean of the replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from hocket.core.recipe import Section, by_name


class OuterOptimiser:
    """``v = momentum * v + lr * g``, then ``w - v``, or with ``nesterov`` ``w - lr * g - momentum * v``."""

    def __init__(
        self,
        weights: Sequence[torch.Tensor],
        *,
        lr: float = 1.0,
        momentum: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        self._lr, self._momentum, self._nesterov = lr, momentum, nesterov
        self.momenta = [torch.zeros_like(flat) for flat in weights] if momentum > 0 else []
        """What is remembered from round to round, shaped like the weights; empty without momentum."""

    def step(self, weights: Sequence[torch.Tensor], pseudogradients: Sequence[torch.Tensor]) -> None:
        """Move ``weights`` in place."""
        for number, (flat, gradient) in enumerate(zip(weights, pseudogradients, strict=True)):
            if not self.momenta:
                flat.sub_(gradient, alpha=self._lr)
                continue
            velocity = self.momenta[number].mul_(self._momentum).add_(gradient, alpha=self._lr)
            if self._nesterov:
                flat.sub_(gradient, alpha=self._lr).sub_(velocity, alpha=self._momentum)
            else:
                flat.sub_(velocity)


class Average(Section):
    """The mean of the replicas (McDonald et al., NAACL 2010; Povey et al., ICLR workshop 2015: Kaldi)."""

    name: Literal["average"] = "average"

    def make(self, weights: Sequence[torch.Tensor], world_size: int) -> OuterOptimiser:
        """The optimiser for weights of these shapes."""
        return OuterOptimiser(weights)


class BlockMomentum(Section):
    """BMUF: the mean way filtered by momentum (Chen & Huo, ICASSP 2016)."""

    name: Literal["bmuf"] = "bmuf"

    block_momentum: float | None = Field(default=None, ge=0, lt=1)
    """Part of the last outer step that is taken again; left out, the paper's 1 - 1/N on N workers."""

    block_lr: float = Field(default=1.0, gt=0)
    """Part of the mean way that is gone."""

    def make(self, weights: Sequence[torch.Tensor], world_size: int) -> OuterOptimiser:
        """The optimiser for weights of these shapes."""
        momentum = 1 - 1 / world_size if self.block_momentum is None else self.block_momentum
        return OuterOptimiser(weights, lr=self.block_lr, momentum=momentum)


class Nesterov(Section):
    """DiLoCo: SGD with Nesterov's momentum on pseudogradients (Douillard et al., 2023)."""

    name: Literal["nesterov"] = "nesterov"

    lr: float = Field(default=0.7, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)

    def make(self, weights: Sequence[torch.Tensor], world_size: int) -> OuterOptimiser:
        """The optimiser for weights of these shapes."""
        return OuterOptimiser(weights, lr=self.lr, momentum=self.momentum, nesterov=True)


OuterSettings = Annotated[
    Annotated[Average | BlockMomentum | Nesterov, Field(discriminator="name")], by_name("average")
]
