"""What a model is made of: a preset by name, and what differs from it."""

from __future__ import annotations

from typing import Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from hocket.core.recipe import Section
from hocket.model.dropout import levels
from hocket.model.presets import PRESETS

I64 = npt.NDArray[np.int64]

CUSTOM = "custom"
"""The preset of a model whose shape came from elsewhere: it has no defaults."""


class ModelConfig(Section):
    """A FastConformer-CTC (Rekesh et al., 2023, arXiv:2305.05084). Keys not given come from ``preset``.

    ``vocab_size`` counts the blank, which is the last token; 0 means that the corpus has yet to say
    (see :meth:`with_tokens`), and such a model cannot be built.
    """

    preset: str = "tiny"
    vocab_size: int = Field(default=0, ge=0)
    num_mel_bins: int = Field(default=80, gt=0)

    hidden_size: int = Field(gt=0)
    num_layers: int = Field(gt=0)
    num_heads: int = Field(gt=0)
    ff_size: int = Field(gt=0)
    conv_kernel_size: int = Field(gt=0)
    subsampling_factor: Literal[4, 8]
    subsampling_channels: int = Field(gt=0)

    conv_norm: Literal["layer_norm", "frozen_batch_norm"]
    """``layer_norm``: each frame by itself, for training from scratch. ``frozen_batch_norm``: the
    statistics of an imported model, as constants."""
    attention_bias: bool = True
    """Biases in the linear layers of attention and feed-forward."""
    conv_bias: bool = True
    """Biases in the convolution module."""
    scale_input: bool = False
    """Multiply what comes out of the subsampling by the root of ``hidden_size``."""

    dropout: float = Field(ge=0.0, lt=0.99)
    """Rate at the residual outputs of feed-forward, attention and convolution."""
    ff_dropout: float = Field(default=0.1, ge=0.0, lt=0.99)
    """Rate after the activation inside the feed-forward."""
    input_dropout: float = Field(default=0.1, ge=0.0, lt=0.99)
    """Rate after the subsampling."""

    left_context: int | None = Field(default=None, ge=0)
    """Frames after subsampling, before a frame, that it attends to; null for all."""
    right_context: int | None = Field(default=None, ge=0)
    """Frames after subsampling, after a frame, that it attends to; null for all."""
    blockwise_above: int = Field(default=2000, ge=0)
    """Frames after subsampling above which attention is computed in tiles: the same to rounding, and no
    table of frames by frames. With both contexts set, its time is then linear in the frames."""
    attention_block: int = Field(default=256, gt=0)
    """Frames on a side of a tile."""

    intermediate_ctc: tuple[int, ...] = ()
    """Blocks, counted from 1, whose output learns the same texts through the same head (Lee &
    Watanabe, ICASSP 2021, arXiv:2102.03216). Training only; nothing is added to the model."""
    intermediate_ctc_weight: float = Field(default=0.3, gt=0.0, lt=1.0)
    """Share of the loss that those blocks have together."""
    consistency: float = Field(default=0.0, ge=0.0, le=10.0)
    """Above 0, every utterance is learnt from in two views, masked and dropped out differently, and
    this times the divergence between what they say is added to the loss (CR-CTC: Yao et al., ICLR
    2025, arXiv:2410.05101, who take 0.2). Twice the compute for each second of audio."""

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        name = given.get("preset", "tiny")
        if name == CUSTOM:
            return given
        if name not in PRESETS:
            raise ValueError(
                f"no preset {name!r}; there are {', '.join(PRESETS)}, and {CUSTOM} without defaults"
            )
        return {**PRESETS[name], **given}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.vocab_size == 1:
            raise ValueError("vocab_size 1 would be the blank alone")
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_heads {self.num_heads}"
            )
        if self.hidden_size % 2:
            raise ValueError(f"hidden_size {self.hidden_size} is odd: sines and cosines come in pairs")
        if self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size {self.conv_kernel_size} is even: it has no middle")
        if self.num_mel_bins % self.subsampling_factor:
            raise ValueError(
                f"num_mel_bins {self.num_mel_bins} is not a multiple of "
                f"subsampling_factor {self.subsampling_factor}"
            )
        for rate in (self.dropout, self.ff_dropout, self.input_dropout):
            levels(rate)
        inner = self.intermediate_ctc
        if list(inner) != sorted(set(inner)) or not all(0 < block < self.num_layers for block in inner):
            raise ValueError(
                f"intermediate_ctc {list(inner)}: name blocks from 1 to {self.num_layers - 1}, ascending"
            )
        return self

    @property
    def blank(self) -> int:
        """The id of CTC's blank: the last token."""
        return self.vocab_size - 1

    @property
    def num_views(self) -> int:
        """How often each utterance of a training micro-batch is run."""
        return 2 if self.consistency else 1

    @property
    def head_dim(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_heads

    @property
    def num_stages(self) -> int:
        """Convolutions of stride 2 in the subsampling."""
        return self.subsampling_factor.bit_length() - 1

    @property
    def num_pieces(self) -> int:
        """Pieces that a pipeline may cut between: the subsampling, the blocks, the head."""
        return self.num_layers + 2

    @overload
    def subsampled(self, num_frames: int) -> int: ...
    @overload
    def subsampled(self, num_frames: I64) -> I64: ...
    def subsampled(self, num_frames: int | I64) -> int | I64:
        """Frames after subsampling of ``num_frames`` feature frames: halved, rounding up, per stage.

        Rounding up twice is rounding up once by the product.
        """
        return -(-num_frames // self.subsampling_factor)

    def with_tokens(self, vocab_size: int, num_mel_bins: int | None = None) -> ModelConfig:
        """The same model for a corpus of ``vocab_size`` tokens (with the blank)."""
        changes = {"vocab_size": vocab_size, "num_mel_bins": num_mel_bins or self.num_mel_bins}
        return ModelConfig.model_validate({**self.model_dump(), **changes})
