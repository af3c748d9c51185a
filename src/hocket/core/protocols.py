"""What ``parallel`` offers and what ``sync`` does, so that every pair of them combines.

``parallel`` splits one replica of the model and never reduces over the mesh axis ``dp_replicate``;
``sync`` makes replicas agree and touches only that axis. They meet in two protocols:

* a :class:`Replica` runs micro-batches and leaves gradients in flat :class:`GradBucket` buffers;
* a :class:`SyncStrategy` is told when a bucket is ready and owns the optimiser's step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from hocket.core.held import Held
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec


@dataclass
class GradBucket:
    """Gradients of some parameters, one flat buffer; each ``parameter.grad`` is a view into it.

    Buckets are numbered in the order in which the backward pass fills them, the same on every rank.
    Where a replica is split, ``parameters`` are the parts of them that this rank holds, as plain tensors.
    """

    index: int
    names: list[str]
    parameters: list[torch.nn.Parameter]
    flat: torch.Tensor
    counted: bool = True
    """Part of the norm as this rank tells it; False where another rank of the replica holds the same."""
    integers: torch.Tensor | None = None
    """Under :meth:`Replica.add_as_integers`, int64, as long as ``flat``: one micro-batch of each rank that
    this bucket's gradient was added up from, where there are several."""

    def views(self, flat: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """``flat`` (as long as the bucket) cut and shaped like the parameters, by name."""
        start = 0
        for name, parameter in zip(self.names, self.parameters, strict=True):
            size = parameter.numel()
            yield name, flat[start : start + size].view_as(parameter)
            start += size


class OutOfMemory(Exception):
    """A replica could not compute a micro-batch for want of memory; its gradients are incomplete.

    ``position`` is that of the micro-batch in what the replica was given.
    """

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


@dataclass(frozen=True)
class MicroBatchResult:
    """What came out of one micro-batch: the *sum* of its utterances' losses, in nats."""

    index: int
    loss: torch.Tensor
    """0-d, detached, float32 or float64, on the device: reading it waits for the device."""


@dataclass(frozen=True)
class Evaluated:
    """What a model makes of a micro-batch without learning from it. B utterances, T frames."""

    losses_B: torch.Tensor
    """CTC loss in nats; infinite where the frames cannot align the text."""
    best_BT: torch.Tensor
    """The likeliest token of every frame."""
    lens_B: torch.Tensor


class Inside(Protocol):
    """Collectives among the ranks of one replica (a communicator)."""

    rank: int
    world_size: int

    def all_reduce(self, tensor: torch.Tensor) -> Any:
        """Start summing ``tensor`` in place; the result has ``wait``."""
        ...

    def all_gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """The ``tensor`` (same shape everywhere) of each rank."""
        ...


class Replica(Protocol):
    """One replica of the model, on one or many ranks, behind one way of running it."""

    model: torch.nn.Module
    device: torch.device
    buckets: list[GradBucket]
    held: list[Held]
    """All that this rank holds of the model's parameters and buffers."""
    inside: Inside
    """Among the ranks of this replica."""
    speaks: bool
    """What this rank says of its micro-batches counts: true for one rank of each group that works on the
    same ones. On the others the losses of results mean nothing."""
    needs_equal_slots: bool
    """Ranks of different groups meet in collectives of the forward pass: all must be given equally many
    micro-batches, in the same call, empty ones among them."""

    def forward_backward(
        self,
        micro_batches: Sequence[MicroBatch],
        *,
        on_bucket: Callable[[GradBucket], None] | None = None,
        on_micro_batch: Callable[[int], None] | None = None,
    ) -> list[MicroBatchResult]:
        """Run micro-batches forward and backward; gradients of the summed loss end in the buckets.

        ``on_bucket`` is called once a bucket is complete over all ``micro_batches``, in the order of
        ``bucket.index``, as early as the backward pass of the last one allows; also when
        ``micro_batches`` is empty (the buckets are then zero).

        ``on_micro_batch`` asks for gradients one micro-batch at a time: it is called after each
        backward pass with the position in ``micro_batches``, while the buckets hold that one's
        gradient alone, where ranks of several groups add theirs up that of one of each group; they are
        cleared before the next. ``on_bucket`` is then called at the end.

        Raises :class:`OutOfMemory`; some buckets may have been handed out by then, with gradients that
        count no more. Where the replica is this rank alone the next call begins anew; where it is split
        there is none, since others wait in the midst of the pass.
        """
        ...

    def evaluate(self, micro_batch: MicroBatch) -> Evaluated | None:
        """Losses and likeliest tokens with the weights as they are; every rank of the replica must call.

        None for a micro-batch without utterances; the same on all ranks of a group.
        """
        ...

    def fit_memory(self, largest: Sequence[MicroBatch]) -> None:
        """Settle what a memory target asks for, by the largest micro-batches; all ranks must call alike."""
        ...

    def add_as_integers(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Wherever ranks of this replica add up gradients, add what ``rounded`` makes of them (int64).

        The sums stand in ``bucket.integers``.

        Raises :class:`~hocket.core.errors.UsageError` where splitting changes what is rounded.
        """
        ...

    def zero_grad(self) -> None:
        """Clear all buckets."""
        ...


@dataclass(frozen=True)
class StepReport:
    """What all replicas agree on after a step; equal on every rank but for the last two."""

    loss_sum: float
    """Sum of losses of the global batch, in nats."""
    grad_norm: float
    """Norm of the gradient of the loss per token, before clipping: of the agreed one, or where replicas
    step by themselves the root mean square of theirs."""
    skipped: bool
    """True when a loss or gradient was not finite: the step was not taken by who saw it, or by all."""
    num_dropped: int
    """Utterances of the step that could not be read, over all ranks."""
    utterances: int
    """Sum over the step's utterances of :func:`utterance_digest`: says who was learnt from."""
    stop: bool
    """True when any rank was asked to stop."""
    busy_seconds: tuple[float, ...]
    """Seconds that each rank worked before it was ready to agree, by rank."""
    sync_seconds: float
    """Seconds this rank spent agreeing: waiting for others, and communicating."""
    bytes_sent: int = 0
    """Bytes that this rank put on the wire for this step."""
    out_of_memory: int = 0
    """Ranks that had too little memory for it: the step was skipped by all, to be taken again."""


@dataclass(frozen=True)
class RankPart:
    """What one rank brings to a step beside its gradients."""

    results: Sequence[MicroBatchResult]
    busy_seconds: float = 0.0
    num_dropped: int = 0
    utterances: int = 0
    stop: bool = False
    out_of_memory: bool = False
    """The gradients are incomplete: the step must be skipped by all."""


def utterance_digest(keys: Sequence[int]) -> int:
    """A sum that tells sets of utterances apart: of 32 bits of each key, exact in a float64."""
    return sum(key & 0xFFFFFFFF for key in keys)


class PendingReport(Protocol):
    """A step that has been handed to the device, perhaps not yet done."""

    def ready(self) -> bool:
        """True once this rank has told the others of the step; before that, there is nothing to read.

        Becomes true at the same step on every rank, and at the latest at a consistent point.
        """
        ...

    def result(self) -> StepReport:
        """Wait for the device and read what came out."""
        ...


class SyncStrategy(Protocol):
    """How replicas agree. A strategy owns the step: it may live on a server."""

    per_micro_batch: bool
    """Ask the replica for gradients one micro-batch at a time."""

    per_replica_optimiser: bool
    """Replicas' optimiser states differ: a checkpoint keeps each, other numbers of workers take the mean."""

    def attach(self, replica: Replica) -> None:
        """Allocate what the strategy needs for this replica's buckets."""
        ...

    def begin_step(self, batch: GlobalBatch, *, settle: bool) -> None:
        """A new global batch: its integers (tokens) are the same on every rank.

        ``settle`` asks for a consistent point at the end of this step, or else as soon as the
        strategy's own course comes to one; it is asked again until then, alike on every rank.
        """
        ...

    def on_grad_ready(self, bucket: GradBucket) -> None:
        """A bucket is complete on this rank; may start communication. Must not block."""
        ...

    def on_micro_batch(self, position: int) -> None:
        """The buckets hold the gradient of one micro-batch alone (``per_micro_batch``)."""
        ...

    def step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> PendingReport:
        """Finish the agreement, clip, and step, or skip alike on all ranks.

        What the ranks have to tell each other rides along, so that it costs no collective of its own.
        Nothing here waits for the device: whether a step is skipped is decided there (``found_inf``
        of a fused optimiser).
        """
        ...

    def consistent_point(self) -> bool:
        """True when a checkpoint may be taken now: all replicas hold the same weights."""
        ...

    def state_dict(self) -> dict[str, torch.Tensor]:
        """What the strategy must keep in a checkpoint, by flat names.

        A name on several ranks stands for one value, the same on all of them. What differs from rank
        to rank has the rank in its name.
        """
        ...

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take up the :meth:`state_dict` of all ranks again, possibly on another number of workers.

        ``state`` reads a tensor when it is asked for. Raises
        :class:`~hocket.core.errors.CheckpointError` when it is another strategy's.
        """
        ...


@dataclass(frozen=True)
class Lease:
    """A part of a step that one worker computes on its own: some of the global batch's micro-batches."""

    batch: GlobalBatch
    number: int
    """Which part of the step: from 0 to ``num_parts - 1``."""
    num_parts: int
    micro_batches: tuple[MicroBatchSpec, ...]
    lr: float
    """Learning rate of the step."""
    generation: int = 0
    """Raised when the run went back to a checkpoint: what was leased before counts no more."""
    completed: int = 0
    """Steps before this one are complete, on all workers."""

    @property
    def tokens(self) -> int:
        """Tokens of this part."""
        return sum(micro_batch.total_tokens for micro_batch in self.micro_batches)

    @property
    def share(self) -> float:
        """This part of the step: 0 to 1."""
        return len(self.micro_batches) / len(self.batch.micro_batches)


@dataclass(frozen=True)
class Contribution:
    """What became of a lease's gradient."""

    grad_norm: float
    """Norm of this part's gradient per token, before clipping."""
    staleness: int
    """Updates made by others between taking the weights and adding this gradient."""
    skipped: bool = False
    """True when its loss or gradient was not finite: it was left out."""


class LeasedStrategy(Protocol):
    """How a worker that computes leases, at its own pace, takes part in the learning.

    The counterpart of :class:`SyncStrategy` where workers do not take steps together: no call here is
    a collective, and whoever is gone is not waited for.
    """

    def attach(self, replica: Replica) -> None:
        """Take over the replica's weights; called once."""
        ...

    def join(self, facts: dict[str, Any]) -> None:
        """What the supervisor says of the others: at the start, and whenever something changed."""
        ...

    def prepare(self, lease: Lease) -> None:
        """Bring the replica's weights to what this lease is to be computed with."""
        ...

    def contribute(self, lease: Lease, results: Sequence[MicroBatchResult]) -> Contribution:
        """Add the gradient in the replica's buckets to what all learn. On return it counts."""
        ...

    def rest(self) -> None:
        """Nothing is leased for now: hand over what is still kept back, and keep still."""
        ...

    def give(self) -> tuple[list[torch.Tensor], float]:
        """This worker's state for an average of all: flat vectors, and steps of its optimiser."""
        ...

    def take(self, tensors: Sequence[torch.Tensor], num_updates: float) -> None:
        """The state that all workers begin with, or go on with."""
        ...

    def refresh(self) -> None:
        """At a consistent point: bring the replica to the weights that all agree on."""
        ...

    def tell(self) -> dict[str, float]:
        """Counts of this worker for the events: bytes sent and received, exchanges."""
        ...

    def close(self) -> None:
        """End all lines."""
        ...
