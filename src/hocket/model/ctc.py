"""The acoustic model: FastConformer encoder and CTC head (Graves et al., 2006).

Module names and tensor shapes are those of Hugging Face's ``ParakeetForCTC``.

Shape suffixes: B utterances, R rows (utterances times views), T frames, F mel bins, V tokens with the
blank last, U tokens of a text.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hocket.core.errors import UsageError
from hocket.core.work import MicroBatch
from hocket.model.config import ModelConfig
from hocket.model.convolution import Pointwise
from hocket.model.encoder import Encoder
from hocket.model.frames import valid_frames
from hocket.model.initial import initialise


class FastConformerCTC(nn.Module):
    """Features in, a score for every token and frame out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.vocab_size == 0:
            raise UsageError(
                "the model has no vocab_size", "Build it with config.with_tokens(tokens.vocab_size)."
            )
        self.config = config
        self.encoder = Encoder(config)
        self.ctc_head = Pointwise(config.hidden_size, config.vocab_size)

    def forward(
        self, features_BTF: Tensor, feature_lens_B: Tensor, dropout_key: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Unnormalised scores (B, T', V) and the number of frames (B) that count in each row.

        With a ``dropout_key`` values are dropped as that key says, without one none are; padding
        beyond ``feature_lens`` has no influence on frames that count.
        """
        hidden_BTD, lens_B = self.encoder(features_BTF, feature_lens_B, dropout_key)
        return self.ctc_head(hidden_BTD), lens_B

    def loss(self, batch: MicroBatch) -> Tensor:
        """What is learnt from, in nats, summed over the utterances, 0-d, in float32 (or float64).

        The CTC loss, in the shares that ``config.intermediate_ctc`` gives to inner blocks, the mean of
        the views where there are several, plus their divergence (see ``config.consistency``). Dropout
        falls by ``batch.dropout_key`` in training mode, and not at all in evaluation mode. A text that
        its frames cannot align gives an infinite loss. A batch without utterances gives a zero with no
        way back to the parameters.
        """
        if not batch.ids:
            return torch.zeros((), device=batch.features_BTF.device, requires_grad=torch.is_grad_enabled())
        config, views = self.config, batch.num_views
        key = batch.dropout_key if self.training else None
        inner = config.intermediate_ctc
        feature_lens_R, tokens_RU, token_lens_R = (
            x.repeat(views, *[1] * (x.dim() - 1))
            for x in (batch.feature_lens_B, batch.tokens_BU, batch.token_lens_B)
        )
        hidden, lens_R = self.encoder.after(
            (*inner, config.num_layers), batch.features_BTF, feature_lens_R, key, batch.rows_R
        )
        shares = [config.intermediate_ctc_weight / len(inner)] * len(inner) if inner else []
        terms = []
        for x_RTD, share in zip(hidden, [*shares, 1.0 - sum(shares)], strict=True):
            log_probs_RTV = log_probs(self.ctc_head(x_RTD))
            losses_R = ctc_losses(log_probs_RTV, lens_R, tokens_RU, token_lens_R)
            terms.append(losses_R.sum() * (share / views))
        if views == 2:
            terms.append(divergence(log_probs_RTV, lens_R) * config.consistency)
        return torch.stack(terms).sum()


def log_probs(logits_RTV: Tensor) -> Tensor:
    """Normalised over the tokens, in float32 (or float64)."""
    exact = torch.float64 if logits_RTV.dtype == torch.float64 else torch.float32
    return F.log_softmax(logits_RTV, dim=-1, dtype=exact)


def ctc_losses(log_probs_BTV: Tensor, lens_B: Tensor, tokens_BU: Tensor, token_lens_B: Tensor) -> Tensor:
    """CTC loss of each utterance (B) in nats; the blank is the last token."""
    blank = log_probs_BTV.shape[-1] - 1
    return F.ctc_loss(log_probs_BTV.transpose(0, 1), tokens_BU, lens_B, token_lens_B, blank, reduction="none")


def divergence(log_probs_RTV: Tensor, lens_R: Tensor) -> Tensor:
    """How far two views of the same utterances, one after the other in R, disagree: nats, 0-d.

    Half of KL(b to a) and KL(a to b), summed over frames; each view is drawn to the other as it stands.
    """
    swapped_RTV = log_probs_RTV.detach().roll(len(lens_R) // 2, 0)
    apart_RT = F.kl_div(log_probs_RTV, swapped_RTV, reduction="none", log_target=True).sum(-1)
    return 0.5 * (apart_RT * valid_frames(lens_R, apart_RT.shape[1])).sum()


def build(config: ModelConfig, seed: int) -> FastConformerCTC:
    """A new model. Each parameter is drawn by (seed, its name) alone, in whatever order or place."""
    model = FastConformerCTC(config)
    initialise(model, seed)
    return model
