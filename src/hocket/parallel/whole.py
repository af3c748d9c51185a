"""The simplest replica: the whole model on one device."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from hocket.core.protocols import GradBucket, MicroBatchResult, OutOfMemory
from hocket.core.work import MicroBatch
from hocket.hardware.memory import give_back_memory, is_out_of_memory
from hocket.parallel.buckets import Filling, make_buckets
from hocket.parallel.precision import Precision, autocast


class WholeReplica:
    """Runs micro-batches one after another and accumulates their gradients in the buckets."""

    def __init__(
        self, model: torch.nn.Module, device: torch.device, *, precision: Precision, bucket_mb: float
    ) -> None:
        self.model, self.device, self._precision = model, device, precision
        self.buckets: list[GradBucket] = make_buckets(model.named_parameters(), bucket_mb)
        self._filling = Filling(self.buckets)
        self._position = 0

    def forward_backward(
        self,
        micro_batches: Sequence[MicroBatch],
        *,
        on_bucket: Callable[[GradBucket], None] | None = None,
        on_micro_batch: Callable[[int], None] | None = None,
    ) -> list[MicroBatchResult]:
        """See :class:`hocket.core.protocols.Replica`. A micro-batch without utterances adds nothing."""
        results: list[MicroBatchResult] = []
        try:
            self._run(micro_batches, results, on_bucket, on_micro_batch)
            return results
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside of the handler: the error's traceback held what was computed so far.
        self._filling.abandon()
        give_back_memory(self.device)
        raise OutOfMemory(self._position, reason)

    def _run(
        self,
        micro_batches: Sequence[MicroBatch],
        results: list[MicroBatchResult],
        on_bucket: Callable[[GradBucket], None] | None,
        on_micro_batch: Callable[[int], None] | None,
    ) -> None:
        last = max((p for p, m in enumerate(micro_batches) if len(m.ids)), default=-1)
        for position, micro_batch in enumerate(micro_batches):
            self._position = position
            if not micro_batch.ids:
                continue
            if on_micro_batch is not None or not results:
                self._filling.discard()
            if on_bucket is not None and position == last:
                self._filling.watch(on_bucket)
            with autocast(self._precision, self.device):
                loss: torch.Tensor = self.model.loss(micro_batch.to(self.device))  # type: ignore[operator]
            loss.backward()  # type: ignore[no-untyped-call]
            self._filling.complete()
            results.append(MicroBatchResult(micro_batch.index, loss.detach()))
            if on_micro_batch is not None:
                on_micro_batch(position)
        if not results:
            self.zero_grad()
        if on_bucket is not None:
            if last < 0:
                self._filling.watch(on_bucket)
            self._filling.finish()

    def zero_grad(self) -> None:
        """Clear all buckets."""
        for bucket in self.buckets:
            bucket.flat.zero_()
