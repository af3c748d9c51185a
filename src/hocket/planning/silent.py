"""Ranks that answer at once: what one rank computes of a split model, without the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hocket.comms.communicator import Handle, Parcel


class _Done:
    def wait(self) -> object:
        """There is nothing to wait for."""
        return None


class SilentCommunicator:
    """The first of ``world_size`` ranks that are not there.

    Sums are what this rank has, and what others would send is zeros. What comes out of a model is wrong; how
    long its own part of the work takes, and how much memory, is right.
    """

    def __init__(self, world_size: int) -> None:
        self.rank, self.world_size, self.bytes_sent = 0, world_size, 0

    def all_reduce(self, tensor: torch.Tensor) -> Handle:
        """The sum is this rank's own."""
        return _Done()

    def all_to_all(self, received: torch.Tensor, parts: torch.Tensor) -> Handle:
        """What was to be sent comes back."""
        received.copy_(parts)
        return _Done()

    def all_gather_into(self, gathered: torch.Tensor, tensor: torch.Tensor) -> Handle:
        """All have what this rank has."""
        gathered.copy_(tensor.expand_as(gathered))
        return _Done()

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """All have what this rank has."""
        return [tensor.clone() for _ in range(self.world_size)]

    def exchange(self, sends: Sequence[Parcel], receives: Sequence[Parcel]) -> Handle:
        """Zeros come."""
        for _, tensor in receives:
            tensor.zero_()
        return _Done()

    def broadcast(self, tensor: torch.Tensor, source: int) -> None:
        """It stays as it is."""

    def barrier(self) -> None:
        """Nobody is waited for."""
