"""Gradients of single micro-batches, looked at while a probe step goes by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from hocket.comms.communicator import Alone, Communicator, Handle
from hocket.core.protocols import Replica
from hocket.core.work import MicroBatch
from hocket.sync.agreement import flat_norm

_HERE = Alone()
"""Norms are those of what this rank holds; they are added up once."""


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

    Where groups of ranks add up their gradients (``dp_shard``) the sample is the sum of one micro-batch of
    each: :func:`~hocket.training.noise_scale.estimate` takes samples of any size.
    """

    def __init__(self, replica: Replica, micro_batches: Sequence[MicroBatch]) -> None:
        self._buckets, self._inside = replica.buckets, replica.inside
        tokens = [int(batch.token_lens_B.sum()) for batch in micro_batches]
        self._seen_2M = torch.zeros((2, len(tokens)), dtype=torch.float64, device=replica.device)
        """Tokens and squared norm of each micro-batch, as far as this rank tells and holds them."""
        if replica.speaks:
            self._seen_2M[0] = torch.tensor(tokens, dtype=torch.float64)
        self._totals: list[torch.Tensor] = []

    def on_micro_batch(self, position: int) -> None:
        """The buckets hold the gradient of one micro-batch alone."""
        self._seen_2M[1, position] = flat_norm(self._buckets, _HERE).square()

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

    def send(self, replicas: Communicator) -> Looked:
        """Start summing over the ranks; every rank calls, also one that had no work."""
        self._inside.all_reduce(self._seen_2M).wait()
        tokens_M, squares_M = self._seen_2M
        some_M = tokens_M > 0
        sums = torch.stack(
            (
                some_M.sum(dtype=torch.float64),
                tokens_M.sum(),
                torch.where(some_M, squares_M / tokens_M.clamp(min=1.0), 0.0).sum(),
            )
        )
        return Looked(sums, replicas.all_reduce(sums))
