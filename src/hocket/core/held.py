"""Which part of a whole tensor a rank holds, as plain data: for checkpoints, averages and the norm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

import torch


@dataclass(frozen=True)
class Box:
    """A rectangular part of a tensor."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Values in it."""
        return prod(self.sizes)

    def of(self, whole: torch.Tensor) -> torch.Tensor:
        """The part of ``whole``, a view."""
        for dim, (start, size) in enumerate(zip(self.offsets, self.sizes, strict=True)):
            whole = whole.narrow(dim, start, size)
        return whole

    def rows(self, start: int, stop: int) -> Box:
        """Rows ``[start, stop)`` of it."""
        return Box((self.offsets[0] + start, *self.offsets[1:]), (stop - start, *self.sizes[1:]))


@dataclass(frozen=True)
class Place:
    """What a rank's tensor is of a whole one: ``boxes``, one after the other along its first dimension."""

    shape: tuple[int, ...]
    boxes: tuple[Box, ...]

    @classmethod
    def whole(cls, tensor: torch.Tensor) -> Place:
        """All of it."""
        shape = tuple(tensor.shape)
        return cls(shape, (Box((0,) * len(shape), shape),))

    def rows(self, start: int, stop: int) -> Place:
        """Rows ``[start, stop)`` of what is held."""
        found, before = [], 0
        for box in self.boxes:
            low, high = max(start - before, 0), min(stop - before, box.sizes[0])
            if low < high:
                found.append(box.rows(low, high))
            before += box.sizes[0]
        return replace(self, boxes=tuple(found))

    def cut(self, whole: torch.Tensor) -> torch.Tensor:
        """What is held, of ``whole``; a copy where that is several boxes."""
        parts = [box.of(whole) for box in self.boxes]
        if not parts:
            return whole.new_empty((0, *self.shape[1:]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def pieces(self, held: torch.Tensor) -> Iterator[tuple[Box, torch.Tensor]]:
        """Every box with its part of ``held``."""
        if not self.shape:
            yield self.boxes[0], held
            return
        start = 0
        for box in self.boxes:
            yield box, held.narrow(0, start, box.sizes[0])
            start += box.sizes[0]


@dataclass(frozen=True)
class Part:
    """A tensor, and what it is of a whole one."""

    tensor: torch.Tensor
    place: Place


@dataclass(frozen=True)
class Held:
    """A parameter or buffer, or the part of it that this rank holds."""

    name: str
    """Of the whole, as in the unsplit model."""
    tensor: torch.Tensor
    """A plain tensor: for a trained parameter the one in its gradient bucket, which the optimiser steps."""
    place: Place
    kind: str = "parameter"
    """``parameter`` or ``buffer``."""

    @property
    def trained(self) -> bool:
        """A parameter that learns."""
        return self.tensor.requires_grad
