"""The FastConformer encoder: subsampling, then blocks (Gulati et al., 2020; Rekesh et al., 2023).

Shape suffixes: B utterances, T frames, F mel bins, D hidden channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import sqrt

import torch.nn.functional as F
from torch import Tensor, nn

from hocket.model.attention import RelativeAttention
from hocket.model.config import ModelConfig
from hocket.model.convolution import ConvolutionModule
from hocket.model.dropout import DropoutMasks, Site, add_dropped, dropout
from hocket.model.feed_forward import FeedForward
from hocket.model.frames import Context, Frames, describe
from hocket.model.subsampling import Subsampling
from hocket.model.time import TimePart, WholeTime


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
    """Mel features to hidden frames.

    ``time_part`` says which of so many frames (after subsampling) are computed here: all of them, or a
    part (see :mod:`hocket.model.time`).
    """

    time_part: Callable[[int], TimePart]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.time_part = WholeTime
        self.config = config
        self.context = Context.of(config)
        self.input_scale = sqrt(config.hidden_size) if config.scale_input else 1.0
        self.input_site = Site("subsampling", config.input_dropout)
        self.subsampling = Subsampling(config)
        self.layers = nn.ModuleList(Block(config, number) for number in range(config.num_layers))

    def forward(
        self, features_BTF: Tensor, feature_lens_B: Tensor, dropout_key: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Hidden frames (B, T', D) and their lengths (B)."""
        (x_BTD,), frames = self.after([len(self.layers)], features_BTF, feature_lens_B, dropout_key)
        return x_BTD, frames.lens_B

    def after(
        self,
        blocks: Collection[int],
        features_BTF: Tensor,
        feature_lens_B: Tensor,
        dropout_key: int | None = None,
    ) -> tuple[list[Tensor], Frames]:
        """Hidden frames (B, T', D) after each of ``blocks``, counted from 1, and what is known of them."""
        x_BTD, frames = self.start(features_BTF, feature_lens_B, dropout_key)
        taken = []
        for number, layer in enumerate(self.layers, 1):
            x_BTD = layer(x_BTD, frames)
            if number in blocks:
                taken.append(x_BTD)
        return taken, frames

    def start(
        self, features_BTF: Tensor, feature_lens_B: Tensor, dropout_key: int | None
    ) -> tuple[Tensor, Frames]:
        """What comes before the first block: its input, and what all blocks know about the frames."""
        part = self.time_part(self.config.subsampled(features_BTF.shape[1]))
        x_BTD, lens_B = self._subsample(features_BTF, feature_lens_B, part)
        if self.input_scale != 1.0:
            x_BTD = x_BTD * self.input_scale
        rows, num_frames = x_BTD.shape[:2]
        masks = None
        if dropout_key is not None:
            masks = DropoutMasks(dropout_key, rows, num_frames, x_BTD.device, first_frame=part.span.first)
        return dropout(x_BTD, self.input_site, masks), describe(lens_B, x_BTD, masks, part, self.context)

    def _subsample(
        self, features_BTF: Tensor, feature_lens_B: Tensor, part: TimePart
    ) -> tuple[Tensor, Tensor]:
        """Hidden frames of ``part`` (B, T', D), and the lengths (B) of the whole.

        The convolutions reach back over the features of one frame. Where others hold that frame, it is
        computed here as well and left out: features are here, and nothing needs to be sent.
        """
        if part.num_parts == 1:
            x_BTD, lens_B = self.subsampling(features_BTF, feature_lens_B)
            return x_BTD, lens_B
        factor, before = self.config.subsampling_factor, min(part.span.first, 1)
        lacking = part.num_frames * factor - features_BTF.shape[1]
        if lacking >= factor:  # there are more parts than frames: some hold padding alone
            features_BTF = F.pad(features_BTF, (0, 0, 0, lacking))
        start = (part.span.first - before) * factor
        x_BTD, lens_B = self.subsampling(
            features_BTF[:, start : part.span.end * factor], feature_lens_B - start
        )
        return x_BTD[:, before:], lens_B + start // factor
