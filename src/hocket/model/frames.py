"""What every layer needs to know about the frames of a micro-batch, worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hocket.model.dropout import DropoutMasks
from hocket.model.time import Span, TimePart, WholeTime

if TYPE_CHECKING:
    from hocket.model.config import ModelConfig

MASKED = -1e9
"""Added to a score that must not count: e**MASKED is exactly 0 in every precision, and a row in
which nothing counts stays finite."""


@dataclass(frozen=True)
class Context:
    """How far a frame sees, and when and how attention is computed in tiles."""

    left: int | None = None
    """Frames before a frame that it attends to; None for all."""
    right: int | None = None
    """Frames after a frame that it attends to; None for all."""
    block: int = 256
    """Queries and keys of a tile."""
    blockwise_above: int = 2000
    """The most frames that are attended to without tiles."""

    @staticmethod
    def of(config: ModelConfig) -> Context:
        """As the model's settings say."""
        return Context(
            config.left_context, config.right_context, config.attention_block, config.blockwise_above
        )

    @property
    def limited(self) -> bool:
        """True when some frames are not seen."""
        return self.left is not None or self.right is not None

    def sees(self, queries: Span, keys: Span) -> bool:
        """True when some of ``queries`` see some of ``keys``."""
        return (self.left is None or queries.first - keys.last <= self.left) and (
            self.right is None or keys.first - queries.last <= self.right
        )

    def sees_all(self, queries: Span, keys: Span) -> bool:
        """True when all of ``queries`` see all of ``keys``."""
        return (self.left is None or queries.last - keys.first <= self.left) and (
            self.right is None or keys.last - queries.first <= self.right
        )

    def distances(self, queries: Span, keys: Span) -> tuple[int, int]:
        """Highest and lowest distance (query less key) in tiles in which something is seen.

        Some of ``queries`` must see some of ``keys``.
        """
        highest, lowest = queries.last - keys.first, queries.first - keys.last
        if self.left is not None:
            highest = min(highest, self.left + 2 * self.block)
        if self.right is not None:
            lowest = max(lowest, -self.right - 2 * self.block)
        return highest, lowest

    def window_bias(self, queries: Span, keys: Span, like: Tensor) -> Tensor:
        """(queries, keys): 0 for what is seen and :data:`MASKED` for what is not, in the type of ``like``."""
        query_I = torch.arange(queries.first, queries.end, device=like.device)
        key_J = torch.arange(keys.first, keys.end, device=like.device)
        distance_IJ = query_I[:, None] - key_J
        hidden_IJ = torch.zeros_like(distance_IJ, dtype=torch.bool)
        if self.left is not None:
            hidden_IJ |= distance_IJ > self.left
        if self.right is not None:
            hidden_IJ |= distance_IJ < -self.right
        return hidden_IJ.to(like.dtype).mul_(MASKED)


@dataclass(frozen=True)
class Frames:
    """Lengths, masks and positions after subsampling.

    B utterances, T frames here, Q 1 or T, P distances, D channels.
    """

    part: TimePart
    """Which frames are here, and the way to the others."""
    context: Context
    lens_B: Tensor
    """Of the whole utterances, whatever part of them is here."""
    valid_BT1: Tensor
    """1 for a frame of the utterance, 0 for padding; in the type of the activations."""
    key_bias_BQT: Tensor | None
    """0 for what a frame attends to, :data:`MASKED` for padding and what is too far, in the type of the
    activations; None where attention is computed in tiles."""
    positions_PD: Tensor
    """Sines and cosines of the distances :attr:`highest` and below."""
    highest: int
    masks: DropoutMasks | None
    """Dropout of this micro-batch; None draws nothing."""


def describe(
    lens_B: Tensor,
    hidden_BTD: Tensor,
    masks: DropoutMasks | None,
    part: TimePart | None = None,
    context: Context | None = None,
) -> Frames:
    """:class:`Frames` for activations of this shape, type and device."""
    num_frames, num_channels = hidden_BTD.shape[1:]
    part, context = part or WholeTime(num_frames), context or Context()
    span, whole = part.span, Span(0, part.num_frames)
    bias_BQT = None
    highest, lowest = context.distances(span, whole)
    if part.num_parts == 1 and num_frames <= context.blockwise_above:
        highest, lowest = num_frames - 1, 1 - num_frames
        bias_BQT = key_bias(lens_B, span, hidden_BTD.dtype)[:, None]
        if context.limited:
            bias_BQT = bias_BQT + context.window_bias(span, span, bias_BQT)
    return Frames(
        part,
        context,
        lens_B,
        valid_frames(lens_B - span.first, num_frames).to(hidden_BTD.dtype)[..., None],
        bias_BQT,
        relative_positions(highest, lowest, num_channels, hidden_BTD),
        highest,
        masks,
    )


def key_bias(lens_B: Tensor, keys: Span, dtype: torch.dtype) -> Tensor:
    """(B, keys): 0 for a frame of the utterance, :data:`MASKED` for padding."""
    return (~valid_frames(lens_B - keys.first, keys.count)).to(dtype).mul_(MASKED)


def valid_frames(lens_B: Tensor, num_frames: int) -> Tensor:
    """True (B, T) where a frame belongs to the utterance."""
    return torch.arange(num_frames, device=lens_B.device) < lens_B[:, None]


def relative_positions(highest: int, lowest: int, num_channels: int, like: Tensor) -> Tensor:
    """Sinusoids (P, D) of the distances from ``highest`` down to ``lowest``, interleaved sine and cosine.

    Transformer-XL (Dai et al., 2019, arXiv:1901.02860), appendix B. In the type and on the device of
    ``like``; angles are taken in float32, or float64 if ``like`` is.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    device = like.device
    channel_C = torch.arange(0, num_channels, 2, device=device, dtype=torch.float32)
    rate_C = (1.0 / 10000.0 ** (channel_C / num_channels)).to(exact)
    distance_P = torch.arange(highest, lowest - 1, -1, device=device, dtype=exact)
    angle_PC = distance_P[:, None] * rate_C
    return torch.stack([angle_PC.sin(), angle_PC.cos()], dim=-1).flatten(1).to(like.dtype)
