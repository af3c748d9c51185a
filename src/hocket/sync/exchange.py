"""How the sum of all replicas' vectors comes to every replica: plainly here, compressed elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import GradBucket
from hocket.sync.state import expect


class Exchange(Protocol):
    """Adds up the buckets of all ranks, each over itself, one round after another.

    A round is :meth:`start` for every bucket in order, then :meth:`finish`, then :meth:`settle`;
    in between, :meth:`forward` may be called once to send what a second stage has to send. Nothing
    in it waits for the device.
    """

    def start(self, bucket: GradBucket, scale: float) -> None:
        """Send ``scale`` times the bucket on its way; the bucket must stay as it is until ``finish``."""
        ...

    def forward(self) -> None:
        """Take in the first stage of all buckets and start the second; nothing where there is one only."""
        ...

    def finish(self) -> float:
        """Fill all buckets with the sum of what all ranks sent, but for a factor, which is returned."""
        ...

    def settle(self, skipped: torch.Tensor) -> None:
        """The round's sum was used, or (0-d, 1) thrown away by all: then it must leave no trace."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """See :class:`hocket.core.protocols.SyncStrategy`."""
        ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """See :class:`hocket.core.protocols.SyncStrategy`."""
        ...


class PlainExchange:
    """Sums as they are, in place: one all-reduce a bucket, and nothing besides."""

    def __init__(self, communicator: Communicator, buckets: Sequence[GradBucket]) -> None:
        self._communicator = communicator
        self._under_way: list[Handle] = []
        self._scale = 1.0

    def start(self, bucket: GradBucket, scale: float) -> None:
        """Start the bucket's all-reduce. ``scale`` is one for all buckets of a round."""
        self._scale = scale
        self._under_way.append(self._communicator.all_reduce(bucket.flat))

    def forward(self) -> None:
        """There is no second stage."""

    def finish(self) -> float:
        """Wait for the sums; the scale is left to the caller, who has a factor of its own."""
        for handle in self._under_way:
            handle.wait()
        self._under_way.clear()
        return self._scale

    def settle(self, skipped: torch.Tensor) -> None:
        """Nothing was kept."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Nothing outlives a round."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Nothing to take up, so nothing may be there."""
        expect(state, ())
