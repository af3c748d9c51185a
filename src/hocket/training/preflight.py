"""The worst micro-batch first: memory that does not suffice shows now, not hours from now."""

from __future__ import annotations

import torch

from hocket.batching import BatchPlan
from hocket.core.errors import RunError
from hocket.core.protocols import Replica
from hocket.core.work import MicroBatchSpec
from hocket.corpus.loading import Loader


def worst_micro_batches(plan: BatchPlan) -> list[MicroBatchSpec]:
    """Of the first pool, which is a random sample: the largest by cost, by padded frames, by tokens."""
    specs = [spec for step in range(plan.steps_per_pool) for spec in plan.global_batch(step).micro_batches]
    by_cost = max(specs, key=lambda spec: spec.cost)
    by_frames = max(specs, key=lambda spec: spec.num_frames * spec.num_utterances)
    by_tokens = max(specs, key=lambda spec: spec.num_tokens * spec.num_utterances)
    return list({id(spec): spec for spec in (by_cost, by_frames, by_tokens)}.values())


def preflight(plan: BatchPlan, loader: Loader, replica: Replica) -> None:
    """Run the worst micro-batches forward and backward on every rank, and forget the gradients.

    Raises :class:`RunError` naming the micro-batch when it does not fit the device's memory.
    """
    worst = worst_micro_batches(plan)
    loaded = [loader.load(spec, 0, 0) for spec in worst]
    for spec, micro_batch in zip(worst, loaded, strict=True):
        try:
            if spec is worst[0]:
                replica.fit_memory(loaded)
            replica.forward_backward([micro_batch])
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise RunError(
                f"the largest micro-batch does not fit the memory: {spec.num_utterances} utterances "
                f"of {spec.num_frames / 100:g} s",
                "Lower batch.seconds, or raise batch.micro_batches_per_step, which cuts it smaller.",
            ) from error
    replica.zero_grad()
