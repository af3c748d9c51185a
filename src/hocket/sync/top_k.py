"""The largest numbers of each bucket, exactly; the others wait until they have grown.

Stich, Cordonnier & Jaggi, "Sparsified SGD with memory", NeurIPS 2018; Aji & Heafield, EMNLP 2017.
Legend: N ranks, K numbers that are sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import GradBucket
from hocket.sync.residuals import load_residuals, store_residuals
from hocket.sync.state import expect


@dataclass
class _Kept:
    bucket: GradBucket
    residual: torch.Tensor
    next_residual: torch.Tensor
    num_sent: int
    index_NK: torch.Tensor
    value_NK: torch.Tensor
    under_way: list[Handle]
    going: tuple[torch.Tensor, ...] = ()
    """What is under way from here: it must live until it has arrived."""


class TopKExchange:
    """Each rank sends its largest numbers, with where they stand, to all; what it does not send it keeps.

    4 bytes for the place and as many as a gradient has for the value, to each other rank. A number
    that no rank sends counts as zero in the sum.
    """

    def __init__(self, communicator: Communicator, buckets: Sequence[GradBucket], *, density: float) -> None:
        self._communicator = communicator
        self._kept: list[_Kept] = []
        for bucket in buckets:
            size = bucket.flat.numel()
            num_sent = max(1, round(density * size))
            shape = (communicator.world_size, num_sent)
            self._kept.append(
                _Kept(
                    bucket,
                    torch.zeros_like(bucket.flat),
                    torch.zeros_like(bucket.flat),
                    num_sent,
                    torch.zeros(shape, dtype=torch.int32, device=bucket.flat.device),
                    bucket.flat.new_zeros(shape),
                    [],
                )
            )

    def start(self, bucket: GradBucket, scale: float) -> None:
        """Choose and send."""
        kept = self._kept[bucket.index]
        torch.add(kept.residual, bucket.flat, alpha=scale, out=kept.next_residual)
        _, index_K = kept.next_residual.abs().topk(kept.num_sent, sorted=False)
        value_K = kept.next_residual.index_select(0, index_K)
        kept.next_residual.index_fill_(0, index_K, 0.0)
        kept.going = (index_K.to(torch.int32), value_K)
        kept.under_way = [
            self._communicator.all_gather_into(into, sent)
            for into, sent in zip((kept.index_NK, kept.value_NK), kept.going, strict=True)
        ]

    def forward(self) -> None:
        """There is no second stage."""

    def finish(self) -> float:
        """Add up what came, in the order of ranks."""
        for kept in self._kept:
            for handle in kept.under_way:
                handle.wait()
            kept.bucket.flat.zero_()
            for index_K, value_K in zip(kept.index_NK, kept.value_NK, strict=True):
                kept.bucket.flat.index_add_(0, index_K, value_K)
        return 1.0

    def settle(self, skipped: torch.Tensor) -> None:
        """Keep what was not sent, or when the sum was thrown away what was kept before."""
        for kept in self._kept:
            torch.where(skipped > 0, kept.residual, kept.next_residual, out=kept.residual)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """This rank's residuals."""
        return store_residuals([kept.residual for kept in self._kept], self._communicator)

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The same number of ranks takes up its own; any other shares out the sum of all evenly."""
        expect(state, ["residual.*"])
        load_residuals([kept.residual for kept in self._kept], state, self._communicator)
