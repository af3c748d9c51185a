"""One utterance over several ranks: each holds a part of its frames, and every weight.

Neighbours are asked for what the depthwise convolutions reach over (a halo), keys and values go around
a ring of all ranks (Liu et al., 2023, arXiv:2310.01889) or, in a limited window, are fetched like a
halo, and CTC's forward and backward variables are handed from part to part. The subsampling needs
nothing: every rank has the features. Gradients of what was received go back the same way.

What each rank finds for the weights is its share: the sum over ranks is the gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hocket.comms.communicator import Communicator
from hocket.core.errors import UsageError
from hocket.model.time import Span


def split_sequence(model: nn.Module, ranks: Communicator) -> None:
    """Have ``model`` compute its part of every micro-batch's frames; all ``ranks`` run the same ones.

    The loss is then that of the whole, on every rank. Gradients are shares, to be summed over ``ranks``.
    Raises :class:`UsageError` for a model without an ``encoder`` that can be split by time.
    """
    encoder = getattr(model, "encoder", None)
    if encoder is None or not hasattr(encoder, "time_part"):
        raise UsageError(f"layout: sp: {type(model).__name__} cannot be split along the time")
    encoder.time_part = partial(SplitTime, ranks)


class SplitTime:
    """The part of rank r of n: frames T*r/n to T*(r+1)/n. See :class:`hocket.model.time.TimePart`."""

    def __init__(self, ranks: Communicator, num_frames: int) -> None:
        self.ranks, self.num_parts = ranks, ranks.world_size
        self.num_frames = max(num_frames, self.num_parts)
        edges = [self.num_frames * rank // self.num_parts for rank in range(self.num_parts + 1)]
        self.spans = [Span(start, end - start) for start, end in pairwise(edges)]
        self.span = self.spans[ranks.rank]

    def frames_at(self, turn: int) -> Span:
        """The part of the rank that is ``turn`` places before this one in the ring."""
        return self.spans[(self.ranks.rank - turn) % self.num_parts]

    def pass_on(self, x: Tensor, turn: int) -> Callable[[], Tensor]:
        """Hand ``x`` (..., frames, channels) to the next rank of the ring."""
        shape = (*x.shape[:-2], self.frames_at(turn + 1).count, x.shape[-1])
        received, rank = x.new_empty(shape), self.ranks.rank
        after, before = (rank + 1) % self.num_parts, (rank - 1) % self.num_parts
        handle = self.ranks.exchange([(after, x.contiguous())], [(before, received)])

        def wait() -> Tensor:
            handle.wait()
            return received

        return wait

    def halo(self, x: Tensor, dim: int, before: int, after: int) -> Tensor:
        """``x`` and its neighbourhood, however many ranks that lies on."""
        y: Tensor = _Halo.apply(x, self, dim, before, after)  # type: ignore[no-untyped-call]
        return y

    def add_up(self, x: Tensor) -> Tensor:
        """The sum over ranks; the gradient of each one's share is that of the sum."""
        y: Tensor = _AddUp.apply(x, self.ranks)  # type: ignore[no-untyped-call]
        return y

    @torch.no_grad()
    def gather(self, x: Tensor) -> Tensor:
        """The frames (B, T, ...) of all ranks, on all of them."""
        x = x.contiguous()
        parts = [x.new_empty((len(x), span.count, *x.shape[2:])) for span in self.spans]
        parts[self.ranks.rank] = x
        others = [rank for rank in range(self.num_parts) if rank != self.ranks.rank]
        self.ranks.exchange([(rank, x) for rank in others], [(rank, parts[rank]) for rank in others]).wait()
        return torch.cat(parts, 1)

    def from_before(self, x: Tensor) -> Tensor:
        """From the rank before this one."""
        return self._receive(x, self.ranks.rank - 1)

    def to_after(self, x: Tensor) -> None:
        """To the rank after this one."""
        self._send(x, self.ranks.rank + 1)

    def from_after(self, x: Tensor) -> Tensor:
        """From the rank after this one."""
        return self._receive(x, self.ranks.rank + 1)

    def to_before(self, x: Tensor) -> None:
        """To the rank before this one."""
        self._send(x, self.ranks.rank - 1)

    def of_last(self, x: Tensor) -> Tensor:
        """Told to all by the last rank."""
        told = x.contiguous().clone()
        self.ranks.broadcast(told, self.num_parts - 1)
        return told

    def within(self, reach: Callable[[Span], Span]) -> list[tuple[int, Span, Span]]:
        """(rank, its frames that this rank reaches, this rank's frames that it reaches), of all others."""
        return [
            (rank, _common(span, reach(self.span)), _common(self.span, reach(span)))
            for rank, span in enumerate(self.spans)
            if rank != self.ranks.rank
        ]

    def _receive(self, x: Tensor, rank: int) -> Tensor:
        if not 0 <= rank < self.num_parts:
            return x
        received = torch.empty_like(x, memory_format=torch.contiguous_format)
        self.ranks.exchange([], [(rank, received)]).wait()
        return received

    def _send(self, x: Tensor, rank: int) -> None:
        if 0 <= rank < self.num_parts:
            self.ranks.exchange([(rank, x.contiguous())], []).wait()


class _Halo(torch.autograd.Function):
    """Forward: fetch frames of others. Backward: give their gradients back, and add what comes in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, part: SplitTime, dim: int, before: int, after: int) -> Tensor:
        def reach(span: Span) -> Span:
            first = max(0, span.first - before)
            return Span(first, min(part.num_frames, span.end + after) - first)

        ctx.part, ctx.dim, ctx.near = part, dim, part.within(reach)
        pieces = {part.ranks.rank: x}
        sends, receives = [], []
        for rank, theirs, ours in ctx.near:
            if theirs.count:
                shape = (*x.shape[:dim], theirs.count, *x.shape[dim + 1 :])
                pieces[rank] = x.new_empty(shape)
                receives.append((rank, pieces[rank]))
            if ours.count:
                sends.append((rank, x.narrow(dim, ours.first - part.span.first, ours.count).contiguous()))
        part.ranks.exchange(sends, receives).wait()
        return torch.cat([pieces[rank] for rank in sorted(pieces)], dim)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        part, dim, grad = ctx.part, ctx.dim, grads[0]
        first = min([theirs.first for _, theirs, _ in ctx.near if theirs.count] + [part.span.first])
        own = grad.narrow(dim, part.span.first - first, part.span.count).clone()
        sends, receives, places = [], [], []
        for rank, theirs, ours in ctx.near:
            if theirs.count:
                sends.append((rank, grad.narrow(dim, theirs.first - first, theirs.count).contiguous()))
            if ours.count:
                places.append(own.narrow(dim, ours.first - part.span.first, ours.count))
                receives.append((rank, torch.empty_like(places[-1], memory_format=torch.contiguous_format)))
        part.ranks.exchange(sends, receives).wait()
        for place, (_, received) in zip(places, receives, strict=True):
            place.add_(received)
        return own, None, None, None, None


class _AddUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Communicator) -> Tensor:
        total = x.clone()
        ranks.all_reduce(total).wait()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


def _common(a: Span, b: Span) -> Span:
    first = max(a.first, b.first)
    return Span(first, max(0, min(a.end, b.end) - first))
