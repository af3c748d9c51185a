"""Attention in tiles as one differentiable function: the path for long audio, in one process or several.

Nothing of the size frames by frames is made, nor is anything kept for the backward pass but queries,
keys, values, the result, and one number for each query; the projection of distances is computed again
as well. Where ranks share the frames, keys and values go around the ring of them, and in the backward
pass their gradients with them until they are home (:class:`~hocket.model.time.TimePart`).

Shape suffixes as in :mod:`hocket.model.tiles`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hocket.model.frames import Context, Frames
from hocket.model.tiles import Gradients, Keys, Positions, Queries, Running
from hocket.model.time import Span, TimePart


def attend_blockwise(
    qkv_3HBTE: Tensor, u_HE: Tensor, v_HE: Tensor, weight_DD: Tensor, frames: Frames
) -> Tensor:
    """Attended values (H, B, T, E); the same as :func:`hocket.model.scores.attend` to rounding.

    ``u`` and ``v`` are added to the queries for content and for distance, ``weight`` projects the
    positions. A window limited on both sides reaches a known number of frames beyond a part: they are
    fetched, and nothing goes around.
    """
    part, context = frames.part, frames.context
    q_1HBTE, kv_2HBTE = torch.split(qkv_3HBTE, [1, 2])
    if context.left is None or context.right is None:
        ring: TimePart | _Near = part
    else:
        ring = _Near(part, context.left, context.right)
        kv_2HBTE = part.halo(kv_2HBTE, 3, context.left, context.right)
    arguments = (q_1HBTE.squeeze(0), kv_2HBTE, u_HE, v_HE, weight_DD, frames, ring)
    out_HBTE: Tensor = _Blockwise.apply(*arguments)  # type: ignore[no-untyped-call]
    return out_HBTE


class _Near:
    """Keys that are all here: those of a part and of its neighbourhood."""

    num_parts = 1

    def __init__(self, part: TimePart, left: int, right: int) -> None:
        first = max(0, part.span.first - left)
        self.span = part.span
        self._keys = Span(first, min(part.num_frames, part.span.end + right) - first)

    def frames_at(self, turn: int) -> Span:
        """Always the same."""
        return self._keys

    def pass_on(self, x: Tensor, turn: int) -> Any:
        """To itself."""
        return lambda: x


class _Blockwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q_HBTE: Tensor,
        kv: Tensor,
        u_HE: Tensor,
        v_HE: Tensor,
        weight_DD: Tensor,
        frames: Frames,
        ring: TimePart | _Near,
    ) -> Tensor:
        context, lens_B = frames.context, frames.lens_B
        queries, running, held = Queries.of(q_HBTE, u_HE, v_HE, ring.span), Running(q_HBTE), kv
        for turn in range(ring.num_parts):
            last = turn == ring.num_parts - 1
            coming = None if last else ring.pass_on(held, turn)
            keys = Keys(held, ring.frames_at(turn))
            if context.sees(queries.span, keys.span):
                positions = _positions(frames, queries.span, keys.span, context)
                distances = positions.projected(weight_DD, q_HBTE.shape[-1], q_HBTE.dtype)
                running.add(queries, keys, distances, lens_B, context)
            held = held if coming is None else coming()
        out_NTE, log_sum_NT = running.result()
        out_HBTE = out_NTE.to(q_HBTE.dtype).view(q_HBTE.shape)
        ctx.save_for_backward(q_HBTE, kv, u_HE, v_HE, weight_DD, out_HBTE, log_sum_NT)
        ctx.frames, ctx.ring = frames, ring
        return out_HBTE

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q_HBTE, kv, u_HE, v_HE, weight_DD, out_HBTE, log_sum_NT = ctx.saved_tensors
        frames, ring = ctx.frames, ctx.ring
        context, lens_B = frames.context, frames.lens_B
        queries, sums = Queries.of(q_HBTE, u_HE, v_HE, ring.span), Gradients(q_HBTE, weight_DD)
        grad_NTE = grads[0].to(q_HBTE.dtype).flatten(0, 1)
        delta_NT = (grad_NTE.to(sums.dtype) * out_HBTE.flatten(0, 1)).sum(-1)
        held, grad_kv = kv, torch.zeros_like(kv, dtype=sums.dtype)
        for turn in range(ring.num_parts):
            last = turn == ring.num_parts - 1
            coming = None if last else ring.pass_on(held, turn)
            keys = Keys(held, ring.frames_at(turn))
            if context.sees(queries.span, keys.span):
                positions = _positions(frames, queries.span, keys.span, context)
                more = (queries, keys, positions, weight_DD, lens_B, context, grad_NTE, log_sum_NT, delta_NT)
                grad_kv += sums.add(*more)
            if ring.num_parts > 1:
                grad_kv = ring.pass_on(grad_kv, turn)()
            held = held if coming is None else coming()
        found = (sums.q_HBTE, grad_kv, sums.u_HE, sums.v_HE, sums.weight_DD)
        inputs = (q_HBTE, kv, u_HE, v_HE, weight_DD)
        return *(grad.to(x.dtype) for grad, x in zip(found, inputs, strict=True)), None, None


def _positions(frames: Frames, queries: Span, keys: Span, context: Context) -> Positions:
    return Positions(frames.positions_PD, frames.highest).between(queries, keys, context)
