"""Synchronous all-reduce: the sum of all replicas' gradients, overlapped with the backward pass."""

from __future__ import annotations

from typing import Any

import torch

from hocket.comms.communicator import Communicator, Handle
from hocket.core import clock
from hocket.core.protocols import GradBucket, PendingReport, RankPart, Replica
from hocket.core.work import GlobalBatch
from hocket.sync.agreement import SharedFacts, clip_factor, flat_norm, step_or_skip


class AllReduce:
    """Every replica takes the same step with the sum over all micro-batches of the global batch.

    The sum of losses is divided by the tokens of the global batch, an integer that all ranks know,
    so that any dealing of micro-batches gives the same gradient to float rounding.
    """

    per_micro_batch = False

    def __init__(self, communicator: Communicator, *, max_grad_norm: float) -> None:
        self._communicator = communicator
        self._max_grad_norm = max_grad_norm

    def attach(self, replica: Replica) -> None:
        """Remember the replica's buckets; nothing of its size is allocated."""
        self._buckets = replica.buckets
        self._device = replica.device
        self._facts = SharedFacts(self._communicator, replica.device)
        self._under_way: list[Handle] = []

    def begin_step(self, batch: GlobalBatch) -> None:
        """Take the integer that the sum of losses is divided by."""
        self._tokens = max(1, batch.total_tokens)

    def on_grad_ready(self, bucket: GradBucket) -> None:
        """Send the bucket on its way."""
        self._under_way.append(self._communicator.all_reduce(bucket.flat))

    def on_micro_batch(self, position: int) -> None:
        """Not used: gradients are accumulated before they are sent."""

    def step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> PendingReport:
        """Wait for the sums, divide, clip, and step."""
        start = clock.monotonic()
        facts, facts_handle = self._facts.send(part, torch.zeros((), device=self._device))
        for handle in (*self._under_way, facts_handle):
            handle.wait()
        self._under_way.clear()
        waited = clock.monotonic() - start

        norm = flat_norm(self._buckets) / self._tokens
        factor = clip_factor(norm, self._max_grad_norm) / self._tokens
        for bucket in self._buckets:
            bucket.flat.mul_(factor)
        return step_or_skip(optimizer, facts, norm, waited)

    def consistent_point(self) -> bool:
        """Always: replicas agree after every step."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Nothing outlives a step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""
