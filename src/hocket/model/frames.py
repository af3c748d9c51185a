"""What every layer needs to know about the frames of a micro-batch, worked out once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hocket.model.dropout import DropoutMasks

MASKED = -1e9
"""Added to a score that must not count: e**MASKED is exactly 0 in every precision, and a row in
which nothing counts stays finite."""


@dataclass(frozen=True)
class Frames:
    """Lengths, masks and positions after subsampling. B utterances, T frames, P = 2T - 1, D channels."""

    lens_B: Tensor
    valid_BT1: Tensor
    """1 for a frame of the utterance, 0 for padding; in the type of the activations."""
    key_bias_BT: Tensor
    """0 for a frame of the utterance, :data:`MASKED` for padding; in the type of the activations."""
    positions_PD: Tensor
    """Sines and cosines of the distances T-1 ... -(T-1)."""
    masks: DropoutMasks | None
    """Dropout of this micro-batch; None draws nothing."""


def describe(lens_B: Tensor, hidden_BTD: Tensor, masks: DropoutMasks | None) -> Frames:
    """:class:`Frames` for activations of this shape, type and device."""
    num_frames, num_channels = hidden_BTD.shape[1:]
    valid_BT = valid_frames(lens_B, num_frames)
    return Frames(
        lens_B,
        valid_BT.to(hidden_BTD.dtype)[..., None],
        (~valid_BT).to(hidden_BTD.dtype).mul_(MASKED),
        relative_positions(num_frames, num_channels, hidden_BTD),
        masks,
    )


def valid_frames(lens_B: Tensor, num_frames: int) -> Tensor:
    """True (B, T) where a frame belongs to the utterance."""
    return torch.arange(num_frames, device=lens_B.device) < lens_B[:, None]


def relative_positions(num_frames: int, num_channels: int, like: Tensor) -> Tensor:
    """Sinusoids (P, D) of the distances from T-1 down to -(T-1), interleaved sine and cosine.

    Transformer-XL (Dai et al., 2019, arXiv:1901.02860), appendix B. In the type and on the device of
    ``like``; angles are taken in float32, or float64 if ``like`` is.
    """
    exact = torch.float64 if like.dtype == torch.float64 else torch.float32
    device = like.device
    channel_C = torch.arange(0, num_channels, 2, device=device, dtype=torch.float32)
    rate_C = (1.0 / 10000.0 ** (channel_C / num_channels)).to(exact)
    distance_P = torch.arange(num_frames - 1, -num_frames, -1, device=device, dtype=exact)
    angle_PC = distance_P[:, None] * rate_C
    return torch.stack([angle_PC.sin(), angle_PC.cos()], dim=-1).flatten(1).to(like.dtype)
