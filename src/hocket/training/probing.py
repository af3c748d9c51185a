"""Gradients of single micro-batches, looked at while a probe step goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core.protocols import GradBucket
from hocket.core.work import MicroBatch
from hocket.sync.agreement import flat_norm


@dataclass(frozen=True)
class Looked:
    """Sums over the samples of a probe step, on their way over the ranks."""

    sums: torch.Tensor
    """Number of samples, their tokens, their squared norms over tokens (3), float64."""
    handle: Handle

    def result(self) -> tuple[int, float, float]:
        """Wait for the sums of all ranks."""
        self.handle.wait()
        num, weights, squares = self.sums.tolist()
        return round(num), weights, squares


class Probe:
    """Looks at each micro-batch's gradient, and adds them up where the strategy wants their sum.

    Adding goes in the order in which a backward pass accumulates, so that a probe step's gradient is
    bit for bit what it would be unobserved. Costs a copy of the gradients for the time of the step.
    """

    def __init__(self, buckets: Sequence[GradBucket], micro_batches: Sequence[MicroBatch]) -> None:
        self._buckets = list(buckets)
        self._tokens = [int(batch.token_lens_B.sum()) for batch in micro_batches]
        device = self._buckets[0].flat.device
        self._sums = torch.zeros(3, dtype=torch.float64, device=device)
        self._totals: list[torch.Tensor] = []

    def on_micro_batch(self, position: int) -> None:
        """The buckets hold the gradient of one micro-batch alone."""
        tokens = self._tokens[position]
        if tokens:
            square = flat_norm(self._buckets).square() / tokens
            self._sums += torch.stack((torch.ones_like(square), torch.full_like(square, tokens), square))

    def add_up(self, position: int) -> None:
        """:meth:`on_micro_batch`, and keep the sum of all gradients so far."""
        self.on_micro_batch(position)
        if not self._totals:
            self._totals = [bucket.flat.clone() for bucket in self._buckets]
            return
        for total, bucket in zip(self._totals, self._buckets, strict=True):
            total += bucket.flat

    def fill(self) -> None:
        """Put the sums into the buckets."""
        for total, bucket in zip(self._totals, self._buckets, strict=False):  # no totals without work
            bucket.flat.copy_(total)
        self._totals = []

    def send(self, communicator: Communicator) -> Looked:
        """Start summing over the ranks; every rank calls, also one that had no work."""
        return Looked(self._sums, communicator.all_reduce(self._sums))
