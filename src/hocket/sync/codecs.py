"""Vectors as fewer bytes: each codec turns rows of numbers into rows of bytes and back, on their device.

Legend: R rows, S numbers in a row, W bytes in a row, G groups.
"""

from __future__ import annotations

from typing import Protocol

import torch

_PACK = 0x0102040810204080
"""Times eight bytes of 0 or 1 in an int64: byte i comes to stand at bit i of the highest byte."""


class Codec(Protocol):
    """A way of writing numbers as bytes."""

    group: int
    """Numbers that are written together: rows are multiples of it."""

    def encode(self, values_RS: torch.Tensor, num_real_G: torch.Tensor) -> torch.Tensor:
        """Bytes (R, W, uint8). ``values_RS`` becomes what they leave out: values less what they decode to.

        ``num_real_G`` are the numbers of each group that are no padding; padding is zero.
        """
        ...

    def decode(self, wire_RW: torch.Tensor, into_RS: torch.Tensor) -> None:
        """Overwrite ``into_RS`` with what the bytes say."""
        ...


class OneBit:
    """The sign of each number, and the mean magnitude of each group in bf16: 1 + 16 / group bits a number.

    Seide, Fu, Droppo, Li & Yu, "1-bit stochastic gradient descent and its application to data-parallel
    distributed training of speech DNNs", Interspeech 2014, with one magnitude instead of two means. Of
    all pairs of a sign and one magnitude, the mean is the one with the least squared error.
    """

    def __init__(self, group: int, device: torch.device, dtype: torch.dtype) -> None:
        self.group = group
        bits = (torch.arange(256)[:, None] >> torch.arange(8)) & 1
        self._signs = (1 - 2 * bits).to(dtype).to(device)  # of each byte: eight signs

    def encode(self, values_RS: torch.Tensor, num_real_G: torch.Tensor) -> torch.Tensor:
        """See :class:`Codec`. A group with a number that is not finite decodes to none that is."""
        values_Gg = values_RS.view(-1, self.group)
        scale_G = torch.linalg.vector_norm(values_Gg, 1, dim=1).div_(num_real_G).to(torch.bfloat16)
        eights = torch.signbit(values_RS).view(torch.uint8).view(torch.int64)
        signs_RW = eights.mul_(_PACK).view(torch.uint8)[:, 7::8]
        scales_RW = scale_G.view(len(values_RS), -1).view(torch.uint8)
        values_Gg.sub_(torch.copysign(scale_G.to(values_RS.dtype)[:, None], values_Gg))
        return torch.cat((signs_RW, scales_RW), dim=1)

    def decode(self, wire_RW: torch.Tensor, into_RS: torch.Tensor) -> None:
        """See :class:`Codec`: a table gives the eight signs of a byte."""
        num_signs = into_RS.shape[1] // 8
        signs = wire_RW[:, :num_signs].reshape(-1).to(torch.int32)
        torch.index_select(self._signs, 0, signs, out=into_RS.view(-1, 8))
        scale_G = wire_RW[:, num_signs:].contiguous().view(torch.bfloat16).to(into_RS.dtype)
        into_RS.view(-1, self.group).mul_(scale_G.view(-1, 1))


class Half:
    """Each number in a 16-bit format."""

    group = 1

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def encode(self, values_RS: torch.Tensor, num_real_G: torch.Tensor) -> torch.Tensor:
        """See :class:`Codec`."""
        short_RS = values_RS.to(self._dtype)
        values_RS.sub_(short_RS)
        return short_RS.view(torch.uint8)

    def decode(self, wire_RW: torch.Tensor, into_RS: torch.Tensor) -> None:
        """See :class:`Codec`."""
        into_RS.copy_(wire_RW.view(self._dtype))
