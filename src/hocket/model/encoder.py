"""The FastConformer encoder: subsampling, then blocks (Gulati et al., 2020; Rekesh et al., 2023).

Shape suffixes: B utterances, T frames, F mel bins, D hidden channels.
"""

from __future__ import annotations

from collections.abc import Collection
from math import sqrt

from torch import Tensor, nn

from hocket.model.attention import RelativeAttention
from hocket.model.config import ModelConfig
from hocket.model.convolution import ConvolutionModule
from hocket.model.dropout import DropoutMasks, Site, add_dropped, dropout
from hocket.model.feed_forward import FeedForward
from hocket.model.frames import Frames, describe
from hocket.model.subsampling import Subsampling


class Block(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward; each on a normalised input."""

    def __init__(self, config: ModelConfig, number: int) -> None:
        super().__init__()
        hidden, site = config.hidden_size, f"layers.{number}"
        self.feed_forward1 = FeedForward(config, f"{site}.feed_forward1")
        self.self_attn = RelativeAttention(config)
        self.conv = ConvolutionModule(config)
        self.feed_forward2 = FeedForward(config, f"{site}.feed_forward2")
        self.norm_feed_forward1 = nn.LayerNorm(hidden)
        self.norm_self_att = nn.LayerNorm(hidden)
        self.norm_conv = nn.LayerNorm(hidden)
        self.norm_feed_forward2 = nn.LayerNorm(hidden)
        self.norm_out = nn.LayerNorm(hidden)
        parts = ("feed_forward1", "self_attn", "conv", "feed_forward2")
        self.sites = {part: Site(f"{site}.{part}", config.dropout) for part in parts}

    def forward(self, x_BTD: Tensor, frames: Frames) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        sites, masks = self.sites, frames.masks
        y_BTD = self.feed_forward1(self.norm_feed_forward1(x_BTD), frames)
        x_BTD = add_dropped(x_BTD, y_BTD, 0.5, sites["feed_forward1"], masks)
        y_BTD = self.self_attn(self.norm_self_att(x_BTD), frames)
        x_BTD = add_dropped(x_BTD, y_BTD, 1.0, sites["self_attn"], masks)
        y_BTD = self.conv(self.norm_conv(x_BTD), frames)
        x_BTD = add_dropped(x_BTD, y_BTD, 1.0, sites["conv"], masks)
        y_BTD = self.feed_forward2(self.norm_feed_forward2(x_BTD), frames)
        x_BTD = add_dropped(x_BTD, y_BTD, 0.5, sites["feed_forward2"], masks)
        normalised_BTD: Tensor = self.norm_out(x_BTD)
        return normalised_BTD


class Encoder(nn.Module):
    """Mel features to hidden frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.input_scale = sqrt(config.hidden_size) if config.scale_input else 1.0
        self.input_site = Site("subsampling", config.input_dropout)
        self.subsampling = Subsampling(config)
        self.layers = nn.ModuleList(Block(config, number) for number in range(config.num_layers))

    def forward(
        self, features_BTF: Tensor, feature_lens_B: Tensor, dropout_key: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden frames (B, T', D) and their lengths (B)."""
        (x_BTD,), lens_B = self.after([len(self.layers)], features_BTF, feature_lens_B, dropout_key)
        return x_BTD, lens_B

    def after(
        self,
        blocks: Collection[int],
        features_BTF: Tensor,
        feature_lens_B: Tensor,
        dropout_key: int | None = None,
        rows_B: Tensor | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """Hidden frames (B, T', D) after each of ``blocks``, counted from 1, and their lengths (B).

        ``rows_B``: which rows of a whole micro-batch these are, where they are a piece of it.
        """
        x_BTD, frames = self.start(features_BTF, feature_lens_B, dropout_key, rows_B)
        taken = []
        for number, layer in enumerate(self.layers, 1):
            x_BTD = layer(x_BTD, frames)
            if number in blocks:
                taken.append(x_BTD)
        return taken, frames.lens_B

    def start(
        self,
        features_BTF: Tensor,
        feature_lens_B: Tensor,
        dropout_key: int | None,
        rows_B: Tensor | None = None,
    ) -> tuple[Tensor, Frames]:
        """What comes before the first block: its input, and what all blocks know about the frames."""
        x_BTD, lens_B = self.subsampling(features_BTF, feature_lens_B)
        if self.input_scale != 1.0:
            x_BTD = x_BTD * self.input_scale
        rows, num_frames = x_BTD.shape[:2]
        masks = None
        if dropout_key is not None:
            masks = DropoutMasks(dropout_key, rows, num_frames, x_BTD.device, rows_B=rows_B)
        return dropout(x_BTD, self.input_site, masks), describe(lens_B, x_BTD, masks)
