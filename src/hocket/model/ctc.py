"""The acoustic model: FastConformer encoder and CTC head (Graves et al., 2006).

Module names and tensor shapes are those of Hugging Face's ``ParakeetForCTC``.

Shape suffixes: B utterances, T frames, F mel bins, V tokens with the blank last, U tokens of a text.
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
        """The CTC loss in nats, summed over the utterances, 0-d, in float32 (or float64).

        Dropout falls by ``batch.dropout_key`` in training mode, and not at all in evaluation mode. A
        text that its frames cannot align gives an infinite loss. A batch without utterances gives a
        zero with no way back to the parameters.
        """
        if not batch.ids:
            return torch.zeros((), device=batch.features_BTF.device, requires_grad=torch.is_grad_enabled())
        key = batch.dropout_key if self.training else None
        logits_BTV, lens_B = self(batch.features_BTF, batch.feature_lens_B, key)
        return ctc_losses(logits_BTV, lens_B, batch.tokens_BU, batch.token_lens_B).sum()


def ctc_losses(logits_BTV: Tensor, lens_B: Tensor, tokens_BU: Tensor, token_lens_B: Tensor) -> Tensor:
    """CTC loss of each utterance (B) in nats, in float32 (or float64); the blank is the last token."""
    exact = torch.float64 if logits_BTV.dtype == torch.float64 else torch.float32
    log_probs_TBV = F.log_softmax(logits_BTV, dim=-1, dtype=exact).transpose(0, 1)
    blank = logits_BTV.shape[-1] - 1
    return F.ctc_loss(log_probs_TBV, tokens_BU, lens_B, token_lens_B, blank, reduction="none")


def build(config: ModelConfig, seed: int) -> FastConformerCTC:
    """A new model. Each parameter is drawn by (seed, its name) alone, in whatever order or place."""
    model = FastConformerCTC(config)
    initialise(model, seed)
    return model
