"""A CTC head whose tokens are spread over ranks: none of them holds the scores of all tokens.

Frames are normalised with two numbers from each rank, the largest score and the sum of exponentials. Of
the scores themselves only the *emissions* are gathered: those of the blank and of the tokens of the text
at hand, frames by U + 1 numbers an utterance.

Shape suffixes: R rows, T frames, V tokens of this rank, U tokens of a text, K = U + 1 emissions, the
blank last, N ranks.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.comms.communicator import Communicator
from hocket.model.ctc_long import is_long, long_ctc_losses
from hocket.model.frames import valid_frames
from hocket.model.time import TimePart, WholeTime


class SplitVocabulary:
    """This rank has the tokens from ``first`` on; see :class:`hocket.model.ctc.Vocabulary`.

    The blank is the last token of the last rank.
    """

    def __init__(self, ranks: Communicator, first: int, count: int) -> None:
        self._ranks, self._first, self._count = ranks, first, count
        self._has_blank = ranks.rank == ranks.world_size - 1

    def log_probs(self, logits_RTV: Tensor) -> Tensor:
        """This rank's, normalised over the tokens of all, in float32 (or float64)."""
        exact = torch.float64 if logits_RTV.dtype == torch.float64 else torch.float32
        y_RTV: Tensor = _LogSoftmax.apply(logits_RTV.to(exact), self._ranks)  # type: ignore[no-untyped-call]
        return y_RTV

    def losses(
        self,
        log_probs_RTV: Tensor,
        lens_R: Tensor,
        tokens_RU: Tensor,
        token_lens_R: Tensor,
        part: TimePart | None = None,
    ) -> Tensor:
        """CTC loss of each row (R) in nats, the same on all ranks."""
        emissions_RTK = self.emissions(log_probs_RTV, tokens_RU)
        part = part or WholeTime(log_probs_RTV.shape[1])
        if is_long(tokens_RU, part):
            return long_ctc_losses(emissions_RTK, lens_R, places_of(tokens_RU), token_lens_R, part)
        losses_R: Tensor = _EmissionCTC.apply(  # type: ignore[no-untyped-call]
            emissions_RTK, lens_R, places_of(tokens_RU), token_lens_R
        )
        return losses_R

    def emissions(self, log_probs_RTV: Tensor, tokens_RU: Tensor) -> Tensor:
        """Log-probabilities (R, T, K) of each place of the text, and of the blank."""
        here_RU = (tokens_RU >= self._first) & (tokens_RU < self._first + self._count - self._has_blank)
        index_RU = (tokens_RU - self._first).clamp(0, self._count - 1)
        index_RTU = index_RU[:, None].expand(-1, log_probs_RTV.shape[1], -1)
        own_RTU = log_probs_RTV.gather(2, index_RTU).masked_fill(~here_RU[:, None], 0.0)
        blank_RT1 = log_probs_RTV[..., -1:] if self._has_blank else torch.zeros_like(own_RTU[..., :1])
        emissions_RTK: Tensor = _Gathered.apply(torch.cat((own_RTU, blank_RT1), 2), self._ranks)  # type: ignore[no-untyped-call]
        return emissions_RTK

    def divergence(self, log_probs_RTV: Tensor, lens_R: Tensor, part: TimePart | None = None) -> Tensor:
        """See :func:`hocket.model.ctc.divergence`; each rank adds up its own tokens first."""
        part = part or WholeTime(log_probs_RTV.shape[1])
        swapped_RTV = log_probs_RTV.detach().roll(len(lens_R) // 2, 0)
        apart_RT = F.kl_div(log_probs_RTV, swapped_RTV, reduction="none", log_target=True).sum(-1)
        own = 0.5 * (apart_RT * valid_frames(lens_R - part.span.first, apart_RT.shape[1])).sum()
        whole: Tensor = _Gathered.apply(own, self._ranks)  # type: ignore[no-untyped-call]
        return part.add_up(whole)

    def best(self, logits_RTV: Tensor) -> Tensor:
        """The likeliest token (R, T) of all; of equal ones the one with the smallest id."""
        most_RT, best_RT = logits_RTV.max(dim=-1)
        most_NRT = torch.stack(self._ranks.all_gather(most_RT))
        best_NRT = torch.stack(self._ranks.all_gather(best_RT + self._first))
        best_RT = best_NRT.gather(0, most_NRT.argmax(0, keepdim=True)).squeeze(0)
        return best_RT


def places_of(tokens_RU: Tensor) -> Tensor:
    """For each token the place (R, U) in its text where its emission stands.

    Its own, or that of the token before it when that is the same one: all that CTC asks of two tokens is
    whether they are the same next to each other.
    """
    place_U = torch.arange(tokens_RU.shape[1], device=tokens_RU.device)
    other_RU = torch.ones_like(tokens_RU, dtype=torch.bool)
    other_RU[:, 1:] = tokens_RU[:, 1:] != tokens_RU[:, :-1]
    if not tokens_RU.shape[1]:
        return tokens_RU
    places_RU: Tensor = torch.where(other_RU, place_U, 0).cummax(1).values
    return places_RU


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits_RTV: Tensor, ranks: Communicator) -> Tensor:
        most_RT1 = logits_RTV.amax(-1, keepdim=True)
        sum_RT1 = (logits_RTV - most_RT1).exp_().sum(-1, keepdim=True)
        most_NRT1, sum_NRT1 = torch.stack(ranks.all_gather(torch.stack((most_RT1, sum_RT1))), 1)
        total_RT1 = (sum_NRT1.log() + most_NRT1).logsumexp(0)
        y_RTV: Tensor = logits_RTV - total_RT1
        ctx.save_for_backward(y_RTV)
        ctx.ranks = ranks
        return y_RTV

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y_RTV,) = ctx.saved_tensors
        sum_RT1 = grads[0].sum(-1, keepdim=True)
        ctx.ranks.all_reduce(sum_RT1).wait()
        return torch.addcmul(grads[0], y_RTV.exp(), sum_RT1, value=-1), None


class _Gathered(torch.autograd.Function):
    """The sum over ranks; each one's share has the gradient of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Communicator) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        ranks.all_reduce(total).wait()
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


class _EmissionCTC(torch.autograd.Function):
    """torch's CTC over emissions that are no whole distribution.

    Its backward pass gives p minus the occupancy, which is right only where a softmax over all tokens
    follows; the derivative by an emission is minus the occupancy alone.
    """

    @staticmethod
    def forward(
        ctx: Any, emissions_RTK: Tensor, lens_R: Tensor, places_RU: Tensor, token_lens_R: Tensor
    ) -> Tensor:
        blank = emissions_RTK.shape[-1] - 1
        with torch.enable_grad():
            x_TRK = emissions_RTK.detach().transpose(0, 1).requires_grad_()
            losses_R = F.ctc_loss(x_TRK, places_RU, lens_R, token_lens_R, blank, reduction="none")
            total = losses_R.sum()
        if ctx.needs_input_grad[0]:
            (grad_TRK,) = torch.autograd.grad(total, x_TRK)
            valid_RT1 = valid_frames(lens_R, emissions_RTK.shape[1])[..., None]
            ctx.save_for_backward(grad_TRK.transpose(0, 1) - emissions_RTK.exp() * valid_RT1)
        return losses_R.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (minus_occupancy_RTK,) = ctx.saved_tensors
        return minus_occupancy_RTK * grads[0][:, None, None], None, None, None
