"""The ways of sending fewer bytes, by name: one form each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field

from hocket.comms.communicator import Communicator
from hocket.core.protocols import GradBucket
from hocket.core.recipe import Section, by_name
from hocket.sync.codecs import Half, OneBit
from hocket.sync.exchange import Exchange, PlainExchange
from hocket.sync.power_sgd import PowerSgdExchange
from hocket.sync.top_k import TopKExchange
from hocket.sync.two_stage import TwoStageExchange

Buckets = Sequence[GradBucket]


class NoCompression(Section):
    """Sums as they are."""

    name: Literal["none"] = "none"

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        return PlainExchange(communicator, buckets)


class Bf16(Section):
    """Each number in bfloat16; sums in the gradients' own precision."""

    name: Literal["bf16"] = "bf16"

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        codec = Half(torch.bfloat16)
        return TwoStageExchange(communicator, buckets, codec, error_feedback=False, matrices_only=False)


class Fp16(Section):
    """Each number in float16; sums in the gradients' own precision."""

    name: Literal["fp16"] = "fp16"

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        codec = Half(torch.float16)
        return TwoStageExchange(communicator, buckets, codec, error_feedback=False, matrices_only=False)


class PowerSgd(Section):
    """Matrices as products of two thin ones, with error feedback."""

    name: Literal["power_sgd"] = "power_sgd"

    rank: int = Field(default=4, ge=1)
    """Columns of the two."""

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        return PowerSgdExchange(communicator, buckets, rank=self.rank)


class OneBitSgd(Section):
    """The signs of matrices and one magnitude a group, both ways, with error feedback."""

    name: Literal["one_bit"] = "one_bit"

    group: int = Field(default=512, ge=512, multiple_of=8)
    """Numbers that share a magnitude."""

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        flat = buckets[0].flat
        codec = OneBit(self.group, flat.device, flat.dtype)
        return TwoStageExchange(communicator, buckets, codec, error_feedback=True, matrices_only=True)


class TopK(Section):
    """The largest numbers alone, with error feedback."""

    name: Literal["top_k"] = "top_k"

    density: float = Field(default=0.01, gt=0, le=1)
    """Part of each bucket's numbers that is sent."""

    def make(self, communicator: Communicator, buckets: Buckets) -> Exchange:
        """The exchange for these buckets."""
        return TopKExchange(communicator, buckets, density=self.density)


CompressionSettings = Annotated[
    Annotated[
        NoCompression | Bf16 | Fp16 | PowerSgd | OneBitSgd | TopK,
        Field(discriminator="name"),
    ],
    by_name("none"),
]
