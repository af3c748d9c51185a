"""Weights, gradients and optimiser state as flat vectors that can be cut, sent and averaged.

Strategies that keep weights elsewhere than in the replica (on servers, in shared memory, in a copy
that neighbours average) see one vector of P numbers, in the order of the replica's gradient buffer.
Optimisers are elementwise, so any slice of it can be stepped alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from hocket.core.protocols import GradBucket


@dataclass(frozen=True)
class OptimiserSpec:
    """Which optimiser steps, as JSON can carry it. ``sgd`` is plain: it has no state."""

    kind: Literal["adamw", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0

    @property
    def slots(self) -> tuple[str, ...]:
        """Names of its state vectors, each as long as the weights."""
        return ("exp_avg", "exp_avg_sq") if self.kind == "adamw" else ()


@dataclass(frozen=True)
class Span:
    """One parameter, or a piece of it: ``[start, stop)`` of a flat vector."""

    start: int
    stop: int
    decayed: bool
    """Weight decay applies: matrices and kernels, not biases and norms."""


@dataclass
class FlatState:
    """All that a run's weights are: P weights, the optimiser's vectors (P each), its count of steps."""

    weights: torch.Tensor
    slots: dict[str, torch.Tensor] = field(default_factory=dict)
    num_updates: float = 0.0

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Weights, then the slots by name."""
        return [self.weights, *(self.slots[name] for name in sorted(self.slots))]

    @classmethod
    def of(cls, tensors: Sequence[torch.Tensor], names: Iterable[str], num_updates: float) -> FlatState:
        """The inverse of :attr:`tensors`."""
        return cls(tensors[0], dict(zip(sorted(names), tensors[1:], strict=True)), num_updates)

    def part(self, start: int, stop: int) -> FlatState:
        """The slice ``[start, stop)``, not copied."""
        slots = {name: value[start:stop] for name, value in self.slots.items()}
        return FlatState(self.weights[start:stop], slots, self.num_updates)


def spans(bucket: GradBucket) -> list[Span]:
    """Where each parameter of ``bucket`` lies in its flat buffer."""
    found, start = [], 0
    for parameter in bucket.parameters:
        found.append(Span(start, start + parameter.numel(), parameter.dim() > 1))
        start += parameter.numel()
    return found


def part_of(whole: Sequence[Span], start: int, stop: int) -> list[Span]:
    """The spans of the slice ``[start, stop)``, counted from its start; parameters may be cut."""
    return [
        Span(max(span.start, start) - start, min(span.stop, stop) - start, span.decayed)
        for span in whole
        if span.start < stop and span.stop > start
    ]


def shard_borders(size: int, num_shards: int) -> list[int]:
    """``num_shards + 1`` borders that cut ``size`` numbers into nearly equal slices."""
    return [size * shard // num_shards for shard in range(num_shards + 1)]


def flatten_weights(bucket: GradBucket, into: torch.Tensor | None = None) -> torch.Tensor:
    """Lay the parameters of ``bucket`` into one vector (P), of which they become views.

    ``into`` (P) may be memory that others see, too: then its contents become the weights.
    """
    flat = torch.empty_like(bucket.flat) if into is None else into
    for parameter, (_, view) in zip(bucket.parameters, bucket.views(flat), strict=True):
        if into is None:
            view.copy_(parameter.detach())
        parameter.data = view
    return flat


class FlatOptimiser:
    """An optimiser over a flat vector: steps ``weights`` by ``gradient`` in place.

    ``slots`` may be given to keep its state in memory of the caller's choice.
    """

    def __init__(
        self,
        spec: OptimiserSpec,
        layout: Sequence[Span],
        weights: torch.Tensor,
        gradient: torch.Tensor,
        slots: dict[str, torch.Tensor] | None = None,
    ) -> None:
        self._weights = weights
        self.slots = slots or {name: torch.zeros_like(weights) for name in spec.slots}
        groups: dict[bool, list[torch.nn.Parameter]] = {True: [], False: []}
        self._counts = []
        self._optimiser: torch.optim.Optimizer | None = None
        state: dict[torch.Tensor, dict[str, Any]] = {}
        for span in layout:
            piece = torch.nn.Parameter(weights[span.start : span.stop])
            piece.grad = gradient[span.start : span.stop]
            groups[span.decayed].append(piece)
            if spec.slots:
                count = torch.zeros((), dtype=torch.float32, device=weights.device)
                self._counts.append(count)
                state[piece] = {name: value[span.start : span.stop] for name, value in self.slots.items()}
                state[piece]["step"] = count
        parameters = [
            {"params": pieces, "weight_decay": spec.weight_decay if decayed else 0.0}
            for decayed, pieces in groups.items()
            if pieces
        ]
        if not parameters:
            return
        if spec.kind == "adamw":
            self._optimiser = torch.optim.AdamW(parameters, betas=spec.betas, fused=True)
        else:
            self._optimiser = torch.optim.SGD(parameters, lr=0.0, fused=True)
        self._optimiser.state.update(state)

    def step(self, lr: float) -> None:
        """One step with the gradient as it is."""
        if self._optimiser is None:
            return
        for group in self._optimiser.param_groups:
            group["lr"] = lr
        self._optimiser.step()

    @property
    def num_updates(self) -> float:
        """Steps taken, as the optimiser's bias correction counts them."""
        return float(self._counts[0]) if self._counts else 0.0

    @num_updates.setter
    def num_updates(self, number: float) -> None:
        for count in self._counts:
            count.fill_(number)

    def state(self) -> FlatState:
        """The vectors themselves, not copied."""
        return FlatState(self._weights, self.slots, self.num_updates)

    def load(self, state: FlatState) -> None:
        """Copy ``state`` in; slots that it lacks begin at zero."""
        self._weights.copy_(state.weights)
        for name, value in self.slots.items():
            if name in state.slots:
                value.copy_(state.slots[name])
            else:
                value.zero_()
        self.num_updates = state.num_updates
