"""hocket's model in transformers."""

from __future__ import annotations

import torch
import transformers
from torch import Tensor

from hocket.model import ModelConfig


class ChannelNorm(torch.nn.LayerNorm):
    """Layer norm over channels, which hocket's models from scratch have in place of batch norm."""

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Normalise each frame."""
        return super().forward(x_BDT.transpose(1, 2)).transpose(1, 2)


def parakeet(config: ModelConfig, norm: str) -> transformers.PreTrainedModel:
    """``ParakeetForCTC`` of the same shape and with the same dropout, in training mode.

    It has dropout after the subsampling and inside the feed-forward; ``config.dropout``, at the outputs
    of a block's parts, must be 0, since transformers has none there. Its dropout of attention weights
    and its layer drop, which hocket has not, are off. In the convolution module it has batch norm, with
    ``norm`` ``layer`` hocket's layer norm instead. The loss is the sum over utterances.
    """
    if config.dropout != 0.0:
        raise ValueError(f"dropout {config.dropout}: transformers has no dropout there; compare with 0")
    encoder = transformers.ParakeetEncoderConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        intermediate_size=config.ff_size,
        attention_bias=config.attention_bias,
        convolution_bias=config.conv_bias,
        conv_kernel_size=config.conv_kernel_size,
        subsampling_factor=config.subsampling_factor,
        subsampling_conv_channels=config.subsampling_channels,
        num_mel_bins=config.num_mel_bins,
        scale_input=config.scale_input,
        dropout=config.input_dropout,
        activation_dropout=config.ff_dropout,
        attention_dropout=0.0,
        layerdrop=0.0,
    )
    whole = transformers.ParakeetCTCConfig(
        vocab_size=config.vocab_size,
        pad_token_id=config.blank,
        encoder_config=encoder,
        ctc_loss_reduction="sum",
    )
    model: transformers.PreTrainedModel = transformers.ParakeetForCTC(whole).train()
    if norm == "layer":
        for layer in model.encoder.layers:
            layer.conv.norm = ChannelNorm(config.hidden_size)
    return model
