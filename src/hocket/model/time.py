"""The frames that a process holds: all of a micro-batch, or a part that other ranks complete.

The model asks for what lies beyond its own frames through :class:`TimePart` and never says how it
comes: with :class:`WholeTime` there is nothing beyond, and ``parallel.sequence`` brings it from other
ranks. So blocks, attention and loss are written once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Span:
    """Frames ``first`` to ``first + count - 1`` of the whole, after subsampling."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """The frame after the last one."""
        return self.first + self.count

    @property
    def last(self) -> int:
        """The last frame."""
        return self.first + self.count - 1

    def part(self, start: int, size: int) -> Span:
        """At most ``size`` frames from the ``start``-th of these on."""
        return Span(self.first + start, min(size, self.count - start))


class TimePart(Protocol):
    """One part of the frames of a micro-batch, and the way to the others.

    Parts are numbered along the time. Every method but :meth:`frames_at` is called by all ranks of a
    group in the same order; gradients go back the way that values came.
    """

    span: Span
    """The frames of this part; never none."""
    num_frames: int
    """Frames of all parts."""
    num_parts: int

    def frames_at(self, turn: int) -> Span:
        """The frames whose keys are here after ``turn`` times :meth:`pass_on`."""
        ...

    def pass_on(self, x: Tensor, turn: int) -> Callable[[], Tensor]:
        """Start handing ``x`` (..., frames, channels) around the ring, to the next part; no gradient.

        ``x`` has as many frames as :meth:`frames_at` says for ``turn``. The call that comes back waits
        for what the part before handed on.
        """
        ...

    def halo(self, x: Tensor, dim: int, before: int, after: int) -> Tensor:
        """``x`` and up to that many frames of the parts before and after it, along ``dim``."""
        ...

    def add_up(self, x: Tensor) -> Tensor:
        """The sum over parts, on all of them; each one's gradient is that of its own share."""
        ...

    def gather(self, x: Tensor) -> Tensor:
        """The frames (B, T, ...) of all parts in order, on all of them. No gradient."""
        ...

    def from_before(self, x: Tensor) -> Tensor:
        """What the part before handed on by :meth:`to_after`; ``x`` itself in the first. No gradient."""
        ...

    def to_after(self, x: Tensor) -> None:
        """Hand ``x`` to the part after this one, where there is one."""
        ...

    def from_after(self, x: Tensor) -> Tensor:
        """What the part after handed back by :meth:`to_before`; ``x`` itself in the last. No gradient."""
        ...

    def to_before(self, x: Tensor) -> None:
        """Hand ``x`` to the part before this one, where there is one."""
        ...

    def of_last(self, x: Tensor) -> Tensor:
        """The ``x`` of the last part, on all of them. No gradient."""
        ...


class WholeTime:
    """All frames in one place."""

    num_parts = 1

    def __init__(self, num_frames: int) -> None:
        self.span, self.num_frames = Span(0, num_frames), num_frames

    def frames_at(self, turn: int) -> Span:
        """All."""
        return self.span

    def pass_on(self, x: Tensor, turn: int) -> Callable[[], Tensor]:
        """To itself."""
        return lambda: x

    def halo(self, x: Tensor, dim: int, before: int, after: int) -> Tensor:
        """There is nothing beyond."""
        return x

    def add_up(self, x: Tensor) -> Tensor:
        """The sum of one."""
        return x

    def gather(self, x: Tensor) -> Tensor:
        """They are here."""
        return x

    def from_before(self, x: Tensor) -> Tensor:
        """It is the first."""
        return x

    def to_after(self, x: Tensor) -> None:
        """It is the last."""

    def from_after(self, x: Tensor) -> Tensor:
        """It is the last."""
        return x

    def to_before(self, x: Tensor) -> None:
        """It is the first."""

    def of_last(self, x: Tensor) -> Tensor:
        """Its own."""
        return x
