"""Synchronous all-reduce: the sum of all replicas' gradients, overlapped with the backward pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field

from hocket.comms.communicator import Communicator
from hocket.core import clock
from hocket.core.protocols import GradBucket, PendingReport, RankPart, Replica, SyncStrategy
from hocket.core.work import GlobalBatch
from hocket.sync.agreement import DeviceReport, SharedFacts, clip_factor, flat_norm, step_or_skip
from hocket.sync.compression import CompressionSettings, NoCompression
from hocket.sync.exchange import Exchange, PlainExchange
from hocket.sync.settings import SyncBase, SyncContext

_NONE = NoCompression()


class AllReduceSettings(SyncBase):
    """All replicas take the same step with the sum of their gradients."""

    name: Literal["all_reduce"] = "all_reduce"

    compression: CompressionSettings = NoCompression()
    """How gradients are made fewer bytes: none, bf16, fp16, power_sgd, one_bit or top_k."""

    compress_after: int = Field(default=0, ge=0)
    """Steps of the run that are sent as they are before compression begins."""

    @property
    def exact_instead(self) -> bool:
        """Sums of integers are the same sums."""
        return isinstance(self.compression, NoCompression)

    @property
    def can_repeat(self) -> bool:
        """A skipped step leaves no trace."""
        return True

    @property
    def sums_gradients(self) -> bool:
        """Rounding to 16 bits leaves their norm as it is; other compression does not."""
        return self.compression.name in ("none", "bf16", "fp16")

    def make(self, context: SyncContext) -> SyncStrategy:
        """See :class:`hocket.sync.settings.SyncBase`."""
        return AllReduce(
            context.communicator,
            max_grad_norm=context.max_grad_norm,
            compression=self.compression,
            compress_after=self.compress_after,
        )


class AllReduce:
    """Every replica takes the same step with the sum over all micro-batches of the global batch.

    The sum of losses is divided by the tokens of the global batch, an integer that all ranks know,
    so that any dealing of micro-batches gives the same gradient to float rounding.
    """

    per_micro_batch = False
    per_replica_optimiser = False

    def __init__(
        self,
        communicator: Communicator,
        *,
        max_grad_norm: float,
        compression: CompressionSettings = _NONE,
        compress_after: int = 0,
    ) -> None:
        self._communicator = communicator
        self._max_grad_norm = max_grad_norm
        self._compression, self._compress_after = compression, compress_after

    def attach(self, replica: Replica) -> None:
        """Make the exchanges for the replica's buckets."""
        self._buckets = replica.buckets
        self._inside = replica.inside
        self._facts = SharedFacts(self._communicator, replica)
        self._fine = torch.zeros((), device=replica.device)
        self._plain = PlainExchange(self._communicator, replica.buckets)
        self._compressed = self._compression.make(self._communicator, replica.buckets)

    def begin_step(self, batch: GlobalBatch, *, settle: bool) -> None:
        """Take the integer that the sum of losses is divided by, and see how to send this step."""
        self._exchange: Exchange = self._compressed if batch.step >= self._compress_after else self._plain
        self._per_token = 1.0 / max(1, batch.total_tokens)
        self._sent_before = self._communicator.bytes_sent

    def on_grad_ready(self, bucket: GradBucket) -> None:
        """Send the bucket on its way."""
        self._exchange.start(bucket, self._per_token)

    def on_micro_batch(self, position: int) -> None:
        """Not used: gradients are accumulated before they are sent."""

    def step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> PendingReport:
        """Wait for the sums, divide, clip, and step."""
        start = clock.monotonic()
        facts, facts_handle = self._facts.send(part, self._fine)
        unit = self._exchange.finish()
        facts_handle.wait()
        waited = clock.monotonic() - start

        norm = flat_norm(self._buckets, self._inside) * unit
        factor = clip_factor(norm, self._max_grad_norm) * unit
        for bucket in self._buckets:
            bucket.flat.mul_(factor)
        skipped = step_or_skip(optimizer, facts[1], norm)
        self._exchange.settle(skipped)
        return DeviceReport(facts, norm, skipped, waited, self._communicator.bytes_sent - self._sent_before)

    def consistent_point(self) -> bool:
        """Always: replicas agree after every step."""
        return True

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What the exchange keeps."""
        return self._compressed.state_dict()

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Hand it to the exchange."""
        self._compressed.load_state_dict(state)
