"""The FastConformer encoder: subsampling, then blocks (Gulati et al., 2020; Rekesh et al., 2023).

Shape suffixes: B utterances, T frames, F mel bins, D hidden channels.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from math import sqrt

import torch
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
        taken, _ = self.through(range(len(self.layers)), x_BTD, frames, blocks)
        return taken, frames

    def start(
        self,
        features_BTF: Tensor,
        feature_lens_B: Tensor,
        dropout_key: int | None,
        rows_B: Tensor | None = None,
    ) -> tuple[Tensor, Frames]:
        """What comes before the first block: its input, and what all blocks know about the frames.

        ``rows_B``: which rows of a whole micro-batch these are, where they are a piece of it.
        """
        part = self.part_of(features_BTF.shape[1])
        x_BTD, lens_B = self._subsample(features_BTF, feature_lens_B, part)
        if self.input_scale != 1.0:
            x_BTD = x_BTD * self.input_scale
        frames = self._frames(x_BTD, lens_B, dropout_key, part, rows_B)
        return dropout(x_BTD, self.input_site, frames.masks), frames

    def part_of(self, num_frames: int) -> TimePart:
        """The part of ``num_frames`` feature frames that is computed here."""
        return self.time_part(self.config.subsampled(num_frames))

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

    def resume(
        self, x_BTD: Tensor, num_frames: int, feature_lens_B: Tensor, dropout_key: int | None
    ) -> Frames:
        """What all blocks know about the frames, where the hidden frames ``x`` come from elsewhere.

        They are those of ``num_frames`` feature frames, or the part of them that is computed here. In the
        type of what :meth:`start` gives, as it is there.
        """
        kind = x_BTD.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x_BTD.dtype
        lens_B = -(-feature_lens_B // self.config.subsampling_factor)
        like_BTD = x_BTD.new_empty(1, dtype=dtype).expand(x_BTD.shape)
        return self._frames(like_BTD, lens_B, dropout_key, self.part_of(num_frames))

    def through(
        self, blocks: Iterable[int], x_BTD: Tensor, frames: Frames, taken_after: Collection[int]
    ) -> tuple[list[Tensor], Tensor]:
        """Run some ``blocks``, counted from 0, one after the other.

        Hidden frames after each of ``taken_after``, counted from 1, and those at the end.
        """
        taken = []
        for number in blocks:
            x_BTD = self.layers[number](x_BTD, frames)
            if number + 1 in taken_after:
                taken.append(x_BTD)
                # Gradients of who goes on are added up before that of who takes, wherever the chain is cut.
                x_BTD = x_BTD.view_as(x_BTD)
        return taken, x_BTD

    def _frames(
        self,
        x_BTD: Tensor,
        lens_B: Tensor,
        dropout_key: int | None,
        part: TimePart,
        rows_B: Tensor | None = None,
    ) -> Frames:
        masks = None
        if dropout_key is not None:
            rows, first = len(x_BTD), part.span.first
            masks = DropoutMasks(
                dropout_key, rows, part.span.count, x_BTD.device, first_frame=first, rows_B=rows_B
            )
        return describe(lens_B, x_BTD, masks, part, self.context)
