"""Dropout whose masks are a function of *where* they fall, never of who draws them, or when.

Whether a value is kept depends on the key of the micro-batch, the name of the site in the model and
the value's global position: utterance row, frame, channel. A rank that holds a slice of the rows,
frames or channels draws that slice of the same mask, padding changes nothing, and recomputation in
the backward pass draws the mask again. There is no generator and no state.

How: a 64-bit hash of (key, row, frame), once per micro-batch. A site multiplies it by an odd number
of its own and takes the high half (multiply-shift hashing: Dietzfelbinger et al., 1997), multiplies
that by a 32-bit hash of the channel word, and folds the high bits of that product into the low
ones. The four bytes of the result decide over four neighbouring channels, so rates are multiples of
1/256. ``benchmarks/dropout_generators.py`` compares it with the usual generators.

Shape suffixes: B utterances, T frames, C channels, W words of four channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hocket.core import seeds

_LANES = 4
_LEVELS = 256
_FRAME_SALT = 0x5851F42D4C957F2D
_WORD_SALT = 0x14057B7EF767814F
_GOLDEN_32 = -1640531535
"""2654435761, Knuth's multiplicative constant, as a signed 32-bit number."""


def levels(rate: float) -> int:
    """The number of the 256 byte values that drop; ``rate`` is rounded to a multiple of 1/256.

    Raises :class:`ValueError` for a rate outside 0 <= rate < 1 (or one that rounds to 1).
    """
    drop = round(rate * _LEVELS)
    if not 0.0 <= rate < 1.0 or drop == _LEVELS:
        raise ValueError(f"a dropout rate must be at least 0 and below 255.5/256, not {rate}")
    return drop


def keep_scale(rate: float) -> float:
    """What kept values are multiplied by: the exact inverse of the probability to be kept."""
    return _LEVELS / (_LEVELS - levels(rate))


@dataclass(frozen=True)
class Site:
    """A place in the model where dropout falls; the name is part of what the mask depends on."""

    name: str
    rate: float


class DropoutMasks:
    """All masks of one micro-batch (or of a slice of it).

    ``key`` is ``MicroBatch.dropout_key``; ``first_row`` and ``first_frame`` say where a slice of
    ``num_rows`` x ``num_frames`` begins in the whole; ``rows_B`` are the rows one by one instead.
    """

    def __init__(
        self,
        key: int,
        num_rows: int,
        num_frames: int,
        device: torch.device | str = "cpu",
        *,
        first_row: int = 0,
        first_frame: int = 0,
        rows_B: Tensor | None = None,
    ) -> None:
        self.key = key
        if rows_B is None:
            rows_B = torch.arange(first_row, first_row + num_rows, device=device)
        frames_T = torch.arange(first_frame, first_frame + num_frames, device=device)
        position_BT = (rows_B[:, None] << 32) + frames_T
        self._frames_BT1 = _mix64(position_BT, seeds.key("dropout frames", key) ^ _FRAME_SALT)[..., None]

    def lanes(self, site: str, num_channels: int, first_channel: int = 0) -> Tensor:
        """Uniform bytes (B, T, C) of a site, uint8, for channels from ``first_channel`` on."""
        first_word, skip = divmod(first_channel, _LANES)
        num_words = -(-(skip + num_channels) // _LANES)
        site_key = _odd(seeds.key("dropout site", self.key, site))
        frames_BT1 = ((self._frames_BT1 * site_key) >> 32).int() | 1
        hash_BTW = frames_BT1 * _words(first_word, num_words, frames_BT1.device)
        # Added, not xored: torch shifts the sign in, and a sign xored with itself is a bit lost.
        hash_BTW += hash_BTW >> 16
        hash_BTW *= _GOLDEN_32
        hash_BTW += hash_BTW >> 15
        lanes_BTC = hash_BTW.view(torch.uint8)
        if num_words * _LANES == num_channels:
            return lanes_BTC
        return lanes_BTC[..., skip : skip + num_channels]

    def keep(self, site: Site, num_channels: int, first_channel: int = 0) -> Tensor:
        """The mask (B, T, C) of a site as uint8: 1 keeps, 0 drops. Unscaled."""
        return self.lanes(site.name, num_channels, first_channel).ge_(levels(site.rate))


def dropout(x_BTC: Tensor, site: Site, masks: DropoutMasks | None, first_channel: int = 0) -> Tensor:
    """``x`` with values dropped and the kept ones scaled; ``x`` itself without masks or rate."""
    if masks is None or levels(site.rate) == 0:
        return x_BTC
    keep_BTC = masks.keep(site, x_BTC.shape[-1], first_channel)
    return torch.mul(x_BTC, _factor(keep_BTC, keep_scale(site.rate), x_BTC.dtype))


def silu_dropout(x_BTC: Tensor, site: Site, masks: DropoutMasks | None, first_channel: int = 0) -> Tensor:
    """``dropout(silu(x))``, keeping only ``x`` and one byte a value for the backward pass."""
    if masks is None or levels(site.rate) == 0:
        return F.silu(x_BTC)
    keep_BTC = masks.keep(site, x_BTC.shape[-1], first_channel)
    y_BTC: Tensor = _SiluDropout.apply(x_BTC, keep_BTC, keep_scale(site.rate))  # type: ignore[no-untyped-call]
    return y_BTC


def add_dropped(
    residual_BTC: Tensor, y_BTC: Tensor, weight: float, site: Site, masks: DropoutMasks | None
) -> Tensor:
    """``residual + weight * dropout(y)`` in one pass over the values."""
    if masks is None or levels(site.rate) == 0:
        return torch.add(residual_BTC, y_BTC, alpha=weight)
    keep_BTC = masks.keep(site, y_BTC.shape[-1])
    scale = weight * keep_scale(site.rate)
    out_BTC: Tensor = _AddDropped.apply(residual_BTC, y_BTC, keep_BTC, scale)  # type: ignore[no-untyped-call]
    return out_BTC


class _SiluDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BTC: Tensor, keep_BTC: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(x_BTC, keep_BTC)
        ctx.scale = scale
        return F.silu(x_BTC).mul_(_factor(keep_BTC, scale, x_BTC.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BTC, keep_BTC = ctx.saved_tensors
        grad_BTC = grads[0] * _factor(keep_BTC, ctx.scale, x_BTC.dtype)
        return torch.ops.aten.silu_backward(grad_BTC, x_BTC), None, None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual_BTC: Tensor, y_BTC: Tensor, keep_BTC: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep_BTC)
        ctx.scale, ctx.dtype = scale, y_BTC.dtype
        return torch.addcmul(residual_BTC, y_BTC, keep_BTC.to(y_BTC.dtype), value=scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (keep_BTC,) = ctx.saved_tensors
        grad_BTC = grads[0]
        return grad_BTC, grad_BTC.to(ctx.dtype) * _factor(keep_BTC, ctx.scale, ctx.dtype), None, None


def _factor(keep_BTC: Tensor, scale: float, dtype: torch.dtype) -> Tensor:
    """0 or ``scale``: arithmetic on bytes and floats alone, since bool masks are slow on CPUs."""
    return keep_BTC.to(dtype).mul_(scale)


@cache
def _words(first_word: int, num_words: int, device: torch.device) -> Tensor:
    """Odd 32-bit hashes (W) of channel words: constants, kept because every site needs them."""
    words_W = torch.arange(first_word, first_word + num_words, device=device)
    return (_mix64(words_W, _WORD_SALT) >> 32).int() | 1


def _odd(key: int) -> int:
    """A 64-bit key as an odd signed number."""
    return _signed(key | 1)


def _signed(key: int) -> int:
    key &= (1 << 64) - 1
    return key - (1 << 64) if key >> 63 else key


def _mix64(values: Tensor, salt: int) -> Tensor:
    """splitmix64's finaliser (Steele, Lea & Flood, 2014) of int64 ``values`` plus a salt."""
    z = values + _signed(salt)
    z = (z ^ ((z >> 30) & ((1 << 34) - 1))) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ ((z >> 27) & ((1 << 37) - 1))) * _signed(0x94D049BB133111EB)
    return z ^ ((z >> 31) & ((1 << 33) - 1))
