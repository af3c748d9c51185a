"""A rank's part of a step: forward and backward, in the way that the strategy wants gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from hocket.core.protocols import GradBucket, MicroBatchResult, OutOfMemory, Replica, SyncStrategy
from hocket.core.work import GlobalBatch, MicroBatch
from hocket.training.memory import MemoryGuard
from hocket.training.probing import Probe
from hocket.training.seat import Seat


@dataclass(frozen=True)
class Computed:
    """What came of it."""

    results: list[MicroBatchResult]
    probe: Probe | None = None
    """Of a probe step."""
    failed: MicroBatch | None = None
    """What did not fit the memory: then the gradients are not those of the step."""


@dataclass(frozen=True)
class Computing:
    """Runs micro-batches, and hands all buckets to the strategy in any case: others may wait for them."""

    replica: Replica
    sync: SyncStrategy
    memory: MemoryGuard
    seat: Seat
    faults: Mapping[int, int]
    """Steps at which a rank is to run out of memory, for tests."""
    measures_noise: bool

    def run(self, batch: GlobalBatch, micro_batches: list[MicroBatch], *, again: bool) -> Computed:
        """Of this rank's micro-batches of a step; ``again``: for want of memory, not for the first time."""
        pieces = self.memory.cut(micro_batches)
        probe = Probe(self.replica, pieces) if batch.probe and self.measures_noise else None
        fails = (
            not again and self.faults.get(batch.step) == self.seat.world.rank and any(m.ids for m in pieces)
        )
        sent: set[int] = set()

        def send(bucket: GradBucket) -> None:
            sent.add(bucket.index)
            self.sync.on_grad_ready(bucket)

        def on_bucket(bucket: GradBucket) -> None:
            send(bucket)
            if fails:
                raise torch.OutOfMemoryError("debug.out_of_memory")

        def on_micro_batch(position: int) -> None:
            if fails:
                raise torch.OutOfMemoryError("debug.out_of_memory")
            if self.sync.per_micro_batch:
                self.sync.on_micro_batch(position)
            if probe is not None:
                (probe.on_micro_batch if self.sync.per_micro_batch else probe.add_up)(position)

        one_by_one = probe is not None or self.sync.per_micro_batch
        try:
            with self.memory.computing():
                results = self.replica.forward_backward(
                    pieces,
                    on_bucket=None if one_by_one else on_bucket,
                    on_micro_batch=on_micro_batch if one_by_one else None,
                )
            computed = Computed(results, probe)
        except OutOfMemory as error:
            computed = Computed([], probe, pieces[error.position])
        if computed.failed is not None and not self.memory.splits:
            return computed  # the run ends here
        if not self.sync.per_micro_batch:
            if probe is not None and computed.failed is None:
                probe.fill()
            for bucket in self.replica.buckets:
                if bucket.index not in sent:
                    send(bucket)
        return computed
