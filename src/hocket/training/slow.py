"""A worker that is slower than it could be, for studies of uneven machines."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from hocket.core import clock
from hocket.core.protocols import Evaluated, GradBucket, MicroBatchResult, Replica
from hocket.core.work import MicroBatch


class SlowReplica:
    """A replica that sleeps after computing, so that computing took ``factor`` times as long.

    Sleeping leaves the processor to others, as a slower machine would.
    """

    def __init__(self, replica: Replica, factor: float) -> None:
        self._replica, self._factor = replica, factor
        self.model, self.device, self.buckets = replica.model, replica.device, replica.buckets
        self.held, self.inside, self.speaks = replica.held, replica.inside, replica.speaks
        self.needs_equal_slots = replica.needs_equal_slots

    def forward_backward(
        self,
        micro_batches: Sequence[MicroBatch],
        *,
        on_bucket: Callable[[GradBucket], None] | None = None,
        on_micro_batch: Callable[[int], None] | None = None,
    ) -> list[MicroBatchResult]:
        """See :class:`hocket.core.protocols.Replica`; buckets are handed out after the sleep."""
        start = clock.monotonic()
        ready: list[GradBucket] = []
        results = self._replica.forward_backward(
            micro_batches,
            on_bucket=None if on_bucket is None else ready.append,
            on_micro_batch=on_micro_batch,
        )
        time.sleep((self._factor - 1) * (clock.monotonic() - start))
        for bucket in ready:
            if on_bucket is not None:
                on_bucket(bucket)
        return results

    def evaluate(self, micro_batch: MicroBatch) -> Evaluated | None:
        """See :class:`hocket.core.protocols.Replica`."""
        return self._replica.evaluate(micro_batch)

    def fit_memory(self, largest: Sequence[MicroBatch]) -> None:
        """See :class:`hocket.core.protocols.Replica`."""
        self._replica.fit_memory(largest)

    def add_as_integers(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """See :class:`hocket.core.protocols.Replica`."""
        self._replica.add_as_integers(rounded)

    def zero_grad(self) -> None:
        """Clear all buckets."""
        self._replica.zero_grad()
