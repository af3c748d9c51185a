"""CTC (Graves et al., 2006) over long time, or over time that ranks share, in little memory.

The forward variables are kept at every n-th frame alone, n about the root of half the frames, and
computed again from there in the backward pass (checkpointing: Griewank, 1992): what is kept grows with
the root of the frames, where torch's ``ctc_loss`` keeps two tables of frames by states. States that no
alignment can be in at a frame (not reachable yet, or too far from the end) are left out. Sums are in
float64: over an hour they reach 100,000 nats, of which float32 keeps two decimals.

Ranks that share the frames hand the forward variables on from part to part and the backward variables
back: a number for each state, instead of gathering what the model said of every frame.

Shape suffixes: B utterances, T frames here, V tokens with blank, U tokens of a text, S = 2U + 1 states
(blanks around and between the tokens), C frames of a stretch, R = S + 2 with two states before the
first that are never reached (forward) or after the last (backward).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from hocket.model.time import TimePart

LONG_CELLS = 1 << 22
"""Frames times states of an utterance above which this is used instead of torch's: 16 MB a table."""


def is_long(tokens_BU: Tensor, part: TimePart) -> bool:
    """True where torch's table of frames by states is too large, or no rank has all frames."""
    return part.num_parts > 1 or part.num_frames * (2 * tokens_BU.shape[1] + 1) > LONG_CELLS


def long_ctc_losses(
    log_probs_BTV: Tensor, lens_B: Tensor, tokens_BU: Tensor, token_lens_B: Tensor, part: TimePart
) -> Tensor:
    """CTC loss of each utterance (B) in nats, the blank being the last token.

    ``log_probs`` are those of the frames of ``part``; the losses those of the whole, the same on every
    rank. Infinite where a text has no alignment.
    """
    trellis = _trellis(log_probs_BTV.shape[-1] - 1, lens_B, tokens_BU, token_lens_B, part)
    losses_B: Tensor = _LongCTC.apply(log_probs_BTV, trellis)  # type: ignore[no-untyped-call]
    return losses_B


@dataclass(frozen=True)
class _Trellis:
    """States of the texts, and which of them count at which frame."""

    labels_BS: Tensor
    skip_BS: Tensor
    """0 where a state may follow the one two before it, -inf where not."""
    lens_B: Tensor
    final_BS: Tensor
    """0 for the two states that an alignment may end in, -inf for others."""
    bounds: tuple[tuple[int, int], ...]
    """(frames, states up to the last but one) of each utterance, as numbers of Python."""
    part: TimePart

    @property
    def num_states(self) -> int:
        """States of the longest text."""
        return self.labels_BS.shape[1]

    def states(self, frame: int) -> slice:
        """Those that some alignment can be in at a frame of the whole."""
        first = min(last - 2 * max(0, length - 1 - frame) for length, last in self.bounds)
        return slice(max(0, first), min(self.num_states, 2 * frame + 2))

    def stretches(self) -> list[range]:
        """The frames here, counted from 0, cut for checkpoints."""
        count = self.part.span.count
        size = max(1, isqrt(count // 2))
        return [range(start, min(start + size, count)) for start in range(0, count, size)]

    def emissions(self, log_probs_BTV: Tensor, stretch: range) -> Tensor:
        """What the model said of each state's token (B, C, S), float64."""
        frames_BCV = log_probs_BTV[:, stretch.start : stretch.stop]
        labels_BCS = self.labels_BS[:, None].expand(-1, len(stretch), -1)
        return frames_BCV.gather(2, labels_BCS).double()

    def inside(self, stretch: range) -> Tensor:
        """True (B, C) for frames of the utterances."""
        first = self.part.span.first
        frames_C = torch.arange(first + stretch.start, first + stretch.stop, device=self.lens_B.device)
        return frames_C < self.lens_B[:, None]


class _LongCTC(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_probs_BTV: Tensor, trellis: _Trellis) -> Tensor:
        part = trellis.part
        alpha_BS = torch.full_like(trellis.final_BS, -torch.inf)
        alpha_BS[:, 0] = 0.0  # before the first frame: nothing said
        alpha_BS = part.from_before(alpha_BS)
        kept = []
        for stretch in trellis.stretches():
            kept.append(alpha_BS)
            alpha_BS = _forward(trellis, log_probs_BTV, stretch, alpha_BS)[:, -1, 2:].clone()
        part.to_after(alpha_BS)
        log_total_B = part.of_last((alpha_BS + trellis.final_BS).logsumexp(-1))
        ctx.save_for_backward(log_probs_BTV, torch.stack(kept), log_total_B)
        ctx.trellis = trellis
        return -log_total_B.to(log_probs_BTV.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        log_probs_BTV, kept, log_total_B = ctx.saved_tensors
        trellis: _Trellis = ctx.trellis
        grad_BTV = torch.zeros_like(log_probs_BTV)
        beta_BS = trellis.part.from_after(trellis.final_BS)
        for stretch, alpha_BS in reversed(list(zip(trellis.stretches(), kept, strict=True))):
            table_BCR = _forward(trellis, log_probs_BTV, stretch, alpha_BS)
            beta_BS = _backward(trellis, log_probs_BTV, stretch, table_BCR, beta_BS)
            occupied_BCS = table_BCR[:, 1:, 2:].sub_(log_total_B[:, None, None]).exp_()
            occupied_BCS.mul_((-grads[0][:, None] * trellis.inside(stretch))[..., None])
            labels_BCS = trellis.labels_BS[:, None].expand_as(occupied_BCS)
            frames_BCV = grad_BTV[:, stretch.start : stretch.stop]
            frames_BCV.scatter_add_(2, labels_BCS, occupied_BCS.to(grad_BTV.dtype))
        trellis.part.to_before(beta_BS)
        return grad_BTV, None


def _forward(trellis: _Trellis, log_probs_BTV: Tensor, stretch: range, alpha_BS: Tensor) -> Tensor:
    """Forward variables (B, C + 1, R): ``alpha`` before the stretch, then those of each frame.

    Those of an utterance that has ended stay as they are. States outside :meth:`_Trellis.states` hold
    -inf, and are never looked at again.
    """
    emissions_BCS, skip_BS = trellis.emissions(log_probs_BTV, stretch), trellis.skip_BS
    B, num_frames, S = emissions_BCS.shape
    table_BCR = emissions_BCS.new_full((B, num_frames + 1, S + 2), -torch.inf)
    table_BCR[:, 0, 2:] = alpha_BS
    for number, states, inside_B1 in _frames(trellis, stretch):
        low, high = states.start, states.stop
        before_BR = table_BCR[:, number]
        stay_BS = before_BR[:, low + 2 : high + 2]
        now_BS = torch.logaddexp(stay_BS, before_BR[:, low + 1 : high + 1])
        now_BS = torch.logaddexp(now_BS, before_BR[:, low:high] + skip_BS[:, states])
        now_BS += emissions_BCS[:, number, states]
        table_BCR[:, number + 1, low + 2 : high + 2] = (
            now_BS if inside_B1 is None else torch.where(inside_B1, now_BS, stay_BS)
        )
    return table_BCR


def _backward(
    trellis: _Trellis, log_probs_BTV: Tensor, stretch: range, table_BCR: Tensor, beta_BS: Tensor
) -> Tensor:
    """Add the backward variables to the forward ones in ``table``; returns those before the stretch.

    ``beta`` is the logarithm of the probability of what comes after the stretch's last frame.
    """
    emissions_BCS = trellis.emissions(log_probs_BTV, stretch)
    pad_BR = emissions_BCS.new_full((len(beta_BS), trellis.num_states + 2), -torch.inf)
    skip_BS = torch.cat([trellis.skip_BS[:, 2:], pad_BR[:, :2]], 1)[:, : trellis.num_states]
    beta_BR = pad_BR.clone()
    beta_BR[:, :-2] = beta_BS
    for number, states, inside_B1 in reversed(list(_frames(trellis, stretch))):
        low, high = states.start, states.stop
        table_BCR[:, number + 1, low + 2 : high + 2] += beta_BR[:, states]
        said_BR = pad_BR.clone()
        said_BR[:, states] = beta_BR[:, states] + emissions_BCS[:, number, states]
        then_BS = torch.logaddexp(said_BR[:, :-2], said_BR[:, 1:-1])
        then_BS = torch.logaddexp(then_BS, said_BR[:, 2:] + skip_BS)
        beta_BR[:, :-2] = then_BS if inside_B1 is None else torch.where(inside_B1, then_BS, beta_BR[:, :-2])
    return beta_BR[:, :-2].clone()


def _frames(trellis: _Trellis, stretch: range) -> Iterator[tuple[int, slice, Tensor | None]]:
    """(number in the stretch, states, utterances that go on) of each frame; None when all do."""
    first = trellis.part.span.first
    shortest = min(length for length, _ in trellis.bounds)
    for number, frame in enumerate(stretch):
        states = trellis.states(first + frame)
        if states.start < states.stop:
            goes_on = first + frame < shortest
            yield number, states, None if goes_on else (trellis.lens_B > first + frame)[:, None]


def _trellis(blank: int, lens_B: Tensor, tokens_BU: Tensor, token_lens_B: Tensor, part: TimePart) -> _Trellis:
    num_tokens = tokens_BU.shape[1]
    number_U = torch.arange(num_tokens, device=tokens_BU.device)
    labels_BS = tokens_BU.new_full((len(lens_B), 2 * num_tokens + 1), blank)
    labels_BS[:, 1::2] = torch.where(number_U < token_lens_B[:, None], tokens_BU, blank)
    skip_BS = torch.full(labels_BS.shape, -torch.inf, dtype=torch.float64, device=labels_BS.device)
    may_skip = labels_BS[:, 3::2] != labels_BS[:, 1:-2:2]
    skip_BS[:, 3::2] = torch.where(may_skip, 0.0, -torch.inf)
    state_S = torch.arange(labels_BS.shape[1], device=labels_BS.device)
    last_B1 = 2 * token_lens_B[:, None]
    ends_BS = (state_S == last_B1) | (state_S == last_B1 - 1)
    final_BS = torch.where(ends_BS, 0.0, -torch.inf).double()
    bounds = zip(lens_B.tolist(), (2 * token_lens_B - 1).tolist(), strict=True)
    return _Trellis(labels_BS, skip_BS, lens_B, final_BS, tuple(bounds), part)
