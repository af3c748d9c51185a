"""The acoustic model: FastConformer encoder and CTC head (Graves et al., 2006).

Module names and tensor shapes are those of Hugging Face's ``ParakeetForCTC``.

Shape suffixes: B utterances, R rows (utterances times views), T frames, F mel bins, V tokens with the
blank last, U tokens of a text.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from hocket.core.errors import UsageError
from hocket.core.protocols import Evaluated
from hocket.core.work import MicroBatch
from hocket.model.config import ModelConfig
from hocket.model.convolution import Pointwise
from hocket.model.cut_points import Piece, piece_names, pieces
from hocket.model.encoder import Encoder
from hocket.model.frames import Frames
from hocket.model.initial import initialise
from hocket.model.vocabulary import Vocabulary


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
        self.vocabulary = Vocabulary()

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
        way back to the parameters. Where ranks share the frames, all return the loss of the whole, and
        the gradients of each are its share.
        """
        if not batch.ids:
            return torch.zeros((), device=batch.features_BTF.device, requires_grad=torch.is_grad_enabled())
        return self.run_pieces(range(self.config.num_pieces), batch)

    def objective(self, hidden: Sequence[Tensor], frames: Frames, batch: MicroBatch) -> Tensor:
        """The second half of :meth:`loss`, from hidden frames (R, T', D).

        ``hidden`` are those after each block of ``config.intermediate_ctc``, then those of the last.
        """
        config, views = self.config, batch.num_views
        inner = config.intermediate_ctc
        tokens_RU, token_lens_R = batch.tokens_BU.repeat(views, 1), batch.token_lens_B.repeat(views)
        shares = [config.intermediate_ctc_weight / len(inner)] * len(inner) if inner else []
        terms = []
        for x_RTD, share in zip(hidden, [*shares, 1.0 - sum(shares)], strict=True):
            log_probs_RTV = self.vocabulary.log_probs(self.ctc_head(x_RTD))
            losses_R = self.vocabulary.losses(
                log_probs_RTV, frames.lens_B, tokens_RU, token_lens_R, frames.part
            )
            terms.append(losses_R.sum() * (share / views))
        if views == 2:
            apart = self.vocabulary.divergence(log_probs_RTV, frames.lens_B, frames.part)
            terms.append(apart * config.consistency)
        return torch.stack(terms).sum()

    def evaluate(self, batch: MicroBatch) -> Evaluated:
        """The loss of each utterance and the likeliest token of each frame, without dropout."""
        found = self.evaluate_pieces(range(self.config.num_pieces), batch)
        assert isinstance(found, Evaluated)
        return found

    def pieces(self, num_frames: int) -> tuple[Piece, ...]:
        """Where the model can be cut, and the cost of each piece: see :mod:`hocket.model.cut_points`."""
        return pieces(self.config, num_frames)

    def keep_pieces(self, kept: Collection[int]) -> None:
        """Let go of all other pieces; what is kept keeps its names.

        Only :meth:`run_pieces` and :meth:`evaluate_pieces` work then.
        """
        for number, name in enumerate(piece_names(self.config)):
            if number not in kept:
                parent, _, child = name.rpartition(".")
                self.get_submodule(parent).register_module(child, None)

    def handed_shape(self, piece: int, batch: MicroBatch) -> tuple[int, ...]:
        """Shape (K, R, T', D) of what is handed to ``piece`` (from 1), known from the plan of batches.

        Hidden frames after each inner block before it that is learnt from, and those to go on with.
        """
        num_taken = sum(block < piece for block in self.config.intermediate_ctc)
        rows, num_frames = batch.features_BTF.shape[:2]
        return num_taken + 1, rows, self.encoder.part_of(num_frames).span.count, self.config.hidden_size

    def evaluated_shape(self, batch: MicroBatch) -> tuple[int, int]:
        """Shape (R, T') of the tokens that :meth:`evaluate` finds."""
        rows, num_frames = batch.features_BTF.shape[:2]
        return rows, self.encoder.part_of(num_frames).num_frames

    def run_pieces(self, chosen: range, batch: MicroBatch, handed_KRTD: Tensor | None = None) -> Tensor:
        """:meth:`loss` by the ``chosen`` ones of the pieces that the model can be cut into.

        ``handed_KRTD`` is what the pieces before these gave, None when there are none. What is given is
        handed on in turn (see :meth:`handed_shape`), or after the last piece the loss. Of ``batch`` the
        first piece reads the features and the last the tokens; all others the lengths alone.
        """
        key = batch.dropout_key if self.training else None
        hidden, frames = self._hidden(chosen, batch, key, handed_KRTD)
        if chosen.stop < self.config.num_pieces:
            return torch.stack(hidden)
        return self.objective(hidden, frames, batch)

    def evaluate_pieces(
        self, chosen: range, batch: MicroBatch, handed_KRTD: Tensor | None = None
    ) -> Tensor | Evaluated:
        """:meth:`evaluate` in the same way: what is handed on, or after the last piece what it finds."""
        hidden, frames = self._hidden(chosen, batch, None, handed_KRTD)
        if chosen.stop < self.config.num_pieces:
            return torch.stack(hidden)
        logits_BTV, lens_B, part = self.ctc_head(hidden[-1]), frames.lens_B, frames.part
        log_probs_BTV = self.vocabulary.log_probs(logits_BTV)
        losses_B = self.vocabulary.losses(log_probs_BTV, lens_B, batch.tokens_BU, batch.token_lens_B, part)
        return Evaluated(losses_B, part.gather(self.vocabulary.best(logits_BTV)), lens_B)

    def _hidden(
        self, chosen: range, batch: MicroBatch, key: int | None, handed_KRTD: Tensor | None
    ) -> tuple[list[Tensor], Frames]:
        """Hidden frames (R, T', D) after the inner blocks so far and after the chosen ones."""
        feature_lens_R = batch.feature_lens_B.repeat(batch.num_views)
        taken: list[Tensor] = []
        if handed_KRTD is None:
            x_RTD, frames = self.encoder.start(batch.features_BTF, feature_lens_R, key, batch.rows_R)
        else:
            *taken, x_RTD = handed_KRTD.unbind()
            frames = self.encoder.resume(x_RTD, batch.features_BTF.shape[1], feature_lens_R, key)
        blocks = range(max(chosen.start, 1) - 1, min(chosen.stop - 1, self.config.num_layers))
        inner, x_RTD = self.encoder.through(blocks, x_RTD, frames, self.config.intermediate_ctc)
        return [*taken, *inner, x_RTD], frames


def build(config: ModelConfig, seed: int) -> FastConformerCTC:
    """A new model. Each parameter is drawn by (seed, its name) alone, in whatever order or place."""
    model = FastConformerCTC(config)
    initialise(model, seed)
    return model
