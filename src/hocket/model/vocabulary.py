"""What is made of the scores of the CTC head: probabilities, losses, the likeliest token.

Shape suffixes: R rows (utterances times views), T frames, V tokens with the blank last, U tokens of a text.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from hocket.model.ctc_long import is_long, long_ctc_losses
from hocket.model.frames import valid_frames
from hocket.model.tiles import wide
from hocket.model.time import TimePart, WholeTime


class Vocabulary:
    """All tokens are here.

    A rank that holds some of them says what differs, by methods of its own: then V is what it holds, and
    losses and divergence are still those of the whole vocabulary.
    """

    def log_probs(self, logits_RTV: Tensor) -> Tensor:
        """Normalised over the tokens, in float32 (or float64)."""
        return F.log_softmax(logits_RTV, dim=-1, dtype=wide(logits_RTV.dtype))

    def losses(
        self,
        log_probs_RTV: Tensor,
        lens_R: Tensor,
        tokens_RU: Tensor,
        token_lens_R: Tensor,
        part: TimePart | None = None,
    ) -> Tensor:
        """CTC loss of each row (R) in nats; the blank is the last token.

        Where ``log_probs`` are those of a part of the frames, the losses are still those of the whole.
        """
        part = part or WholeTime(log_probs_RTV.shape[1])
        scores_RTV, places_RU = self.emissions(log_probs_RTV, tokens_RU)
        losses = long_ctc_losses if is_long(tokens_RU, part) else self.short_losses
        return losses(scores_RTV, lens_R, places_RU, token_lens_R, part)

    def divergence(self, log_probs_RTV: Tensor, lens_R: Tensor, part: TimePart | None = None) -> Tensor:
        """How far two views of the same utterances, one after the other in R, disagree: nats, 0-d.

        Half of KL(b to a) and KL(a to b), summed over frames; each view is drawn to the other as it stands.
        """
        part = part or WholeTime(log_probs_RTV.shape[1])
        swapped_RTV = log_probs_RTV.detach().roll(len(lens_R) // 2, 0)
        apart_RT = F.kl_div(log_probs_RTV, swapped_RTV, reduction="none", log_target=True).sum(-1)
        valid_RT = valid_frames(lens_R - part.span.first, apart_RT.shape[1])
        return part.add_up(self.over_tokens(0.5 * (apart_RT * valid_RT).sum()))

    def best(self, logits_RTV: Tensor) -> Tensor:
        """The likeliest token (R, T) of every frame; of equal ones the one with the smallest id."""
        return logits_RTV.argmax(dim=-1)

    def emissions(self, log_probs_RTV: Tensor, tokens_RU: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of all that CTC asks for, the blank last, and where in them each token stands."""
        return log_probs_RTV, tokens_RU

    def short_losses(
        self, scores_RTV: Tensor, lens_R: Tensor, places_RU: Tensor, token_lens_R: Tensor, part: TimePart
    ) -> Tensor:
        """CTC of all frames at once, from :meth:`emissions`."""
        blank = scores_RTV.shape[-1] - 1
        x_TRV = scores_RTV.transpose(0, 1)
        return F.ctc_loss(x_TRV, places_RU, lens_R, token_lens_R, blank, reduction="none")

    def over_tokens(self, total: Tensor) -> Tensor:
        """A sum over the tokens here, as one over all."""
        return total
