"""How a worker writes gradients for a server: fewer bytes, and what they leave out is sent later."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from hocket.sync.codecs import OneBit

PushType = Literal["fp32", "bf16", "fp16", "one_bit"]
GROUP = 512
"""Numbers that share a magnitude in ``one_bit``."""

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
Encode = Callable[[torch.Tensor], torch.Tensor]


class OneBitPush:
    """Signs and one magnitude a group of a slice, with error feedback on the worker.

    Seide, Fu, Droppo, Li & Yu, Interspeech 2014; see :class:`hocket.sync.codecs.OneBit`. What a push
    leaves out is added to the next one: the sum of all that was sent and of the residual is the sum of
    all gradients.
    """

    def __init__(self, size: int, dtype: torch.dtype) -> None:
        groups = -(-size // GROUP)
        self._size, self._codec = size, OneBit(GROUP, torch.device("cpu"), dtype)
        self.residual = torch.zeros(1, groups * GROUP, dtype=dtype)
        """Of shape (1, S), S the slice's size up to whole groups."""
        self._real = torch.full((groups,), GROUP)
        self._real[-1] = size - (groups - 1) * GROUP

    def __call__(self, gradient: torch.Tensor) -> torch.Tensor:
        """The bytes of a slice of the gradient and of what was left out before."""
        self.residual[0, : self._size] += gradient
        coded = self._codec.encode(self.residual, self._real)
        self.residual[0, self._size :] = 0.0
        return coded[0]


def encoder(push_type: PushType, size: int, dtype: torch.dtype) -> Encode:
    """How a slice of ``size`` numbers is written."""
    if push_type == "one_bit":
        return OneBitPush(size, dtype)
    if push_type in _HALF:
        half = _HALF[push_type]
        return lambda gradient: gradient.to(half)
    return lambda gradient: gradient


def decode(pushed: torch.Tensor, size: int, dtype: torch.dtype) -> torch.Tensor:
    """The numbers of a slice, as the shard adds them up; bytes are those of :class:`OneBitPush`."""
    if pushed.dtype != torch.uint8:
        return pushed
    codec = OneBit(GROUP, torch.device("cpu"), dtype)
    numbers = torch.empty(1, -(-size // GROUP) * GROUP, dtype=dtype)
    codec.decode(pushed[None], numbers)
    return numbers[0, :size]
