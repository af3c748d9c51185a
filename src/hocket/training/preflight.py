"""The worst micro-batch first: memory that does not suffice shows now, not hours from now."""

from __future__ import annotations

from contextlib import nullcontext

from hocket.batching import BatchPlan
from hocket.core.errors import RunError
from hocket.core.protocols import OutOfMemory, Replica
from hocket.core.work import MicroBatch, MicroBatchSpec
from hocket.corpus.loading import Loader
from hocket.hardware.memory import is_out_of_memory
from hocket.training.memory import MemoryGuard


def worst_micro_batches(plan: BatchPlan) -> list[MicroBatchSpec]:
    """Of the first pool, which is a random sample: the largest by cost, by padded frames, by tokens."""
    specs = [spec for step in range(plan.steps_per_pool) for spec in plan.global_batch(step).micro_batches]
    by_cost = max(specs, key=lambda spec: spec.cost)
    by_frames = max(specs, key=lambda spec: spec.num_frames * spec.num_utterances)
    by_tokens = max(specs, key=lambda spec: spec.num_tokens * spec.num_utterances)
    return list({id(spec): spec for spec in (by_cost, by_frames, by_tokens)}.values())


def preflight(plan: BatchPlan, loader: Loader, replica: Replica, memory: MemoryGuard | None = None) -> bool:
    """Run the worst micro-batches forward and backward on every rank, and forget the gradients.

    True when the memory wants them cut into pieces; :class:`RunError` naming the micro-batch where it
    cannot be, or is not to be (no ``memory``: workers that take no step again).
    """
    worst = worst_micro_batches(plan)
    loaded = [loader.load(spec, 0, 0) for spec in worst]
    try:
        replica.fit_memory(loaded)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise does_not_fit(worst[0]) from error
    for spec, micro_batch in zip(worst, loaded, strict=True):
        while (failed := _too_large(micro_batch, replica, memory)) is not None:
            if memory is None or not memory.splits:
                raise does_not_fit(spec)
            memory.note(failed)
    replica.zero_grad()
    return memory is not None and memory.agree_at_start()


def does_not_fit(spec: MicroBatchSpec) -> RunError:
    """What to say where a micro-batch is not cut smaller by itself."""
    return RunError(
        f"a micro-batch does not fit the memory: {spec.num_utterances} utterances "
        f"of {spec.num_frames / 100:g} s",
        "Lower batch.seconds, or raise batch.micro_batches_per_step, which cuts it smaller: hocket fit-batch "
        "finds the largest that fits.",
    )


def _too_large(loaded: MicroBatch, replica: Replica, memory: MemoryGuard | None) -> MicroBatch | None:
    pieces = [loaded] if memory is None else memory.cut([loaded])
    try:
        with nullcontext() if memory is None else memory.computing():
            replica.forward_backward(pieces)
    except OutOfMemory as error:
        return pieces[error.position]
    return None
