"""The replica whose blocks are spread over ranks: a pipeline of stages.

Every rank of the pipeline is given the same micro-batches; features are read on the first stage alone, so
that elsewhere ``features_BTF`` may be any tensor of the right shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

import torch

from hocket.comms.communicator import Communicator
from hocket.core import clock
from hocket.core.errors import UsageError
from hocket.core.held import Held
from hocket.core.protocols import Evaluated, GradBucket, MicroBatchResult, OutOfMemory
from hocket.core.work import MicroBatch
from hocket.hardware.memory import is_out_of_memory
from hocket.parallel.gradients import Gradients
from hocket.parallel.held import held_by
from hocket.parallel.pipeline_balance import balance
from hocket.parallel.pipeline_lines import Lines
from hocket.parallel.pipeline_schedule import Action, ScheduleName, check_chunks, make_order
from hocket.parallel.pipeline_stage import Cuttable, Stage
from hocket.parallel.precision import Precision
from hocket.parallel.whole import Share, filler

TYPICAL_FRAMES = 1000
"""Feature frames of the utterances that stages are balanced for: what is square in them is little below."""

CHUNKS: dict[ScheduleName, int] = {"gpipe": 1, "1f1b": 1, "interleaved": 2}
"""Stages on each rank."""


@dataclass(frozen=True)
class Span:
    """An action as it went, in seconds of :data:`hocket.core.clock.monotonic`."""

    action: Action
    free: float
    """The rank was free to begin."""
    start: float
    """What it needed was there."""
    end: float


class PipelineReplica:
    """Runs the stages of this rank in the order of a schedule.

    ``stages`` are the pieces of every stage; stage ``s`` is on rank ``s % world_size`` of ``pipeline``. The
    model holds the pieces of this rank's stages (:func:`cut`), and ``gradients`` their parameters. Losses are
    those of the last stage, on every rank.

    ``spans``, when set to a list, gets what each action of this rank took; the device is then waited for
    around each.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        stages: Sequence[range],
        pipeline: Communicator,
        lines: Lines,
        device: torch.device,
        *,
        schedule: ScheduleName,
        precision: Precision,
        gradients: Gradients,
        share: Share,
    ) -> None:
        self._chunks = len(stages) // pipeline.world_size
        check_chunks(schedule, self._chunks)
        self.model, self.device = model, device
        self._gradients, self._pipeline, self._schedule = gradients, pipeline, schedule
        self.buckets: list[GradBucket] = gradients.buckets
        self.held: list[Held] = held_by(model, share.places, self.buckets)
        self.inside, self.speaks, self.needs_equal_slots = share.inside, share.speaks, share.needs_equal_slots
        self._kind = next(model.parameters()).dtype
        self._source = (len(stages) - 1) % pipeline.world_size
        self._stages = {
            number: Stage(cast(Cuttable, model), number, stages, lines, device=device, precision=precision)
            for number in range(pipeline.rank, len(stages), pipeline.world_size)
        }
        self.spans: list[Span] | None = None
        self._position = 0

    def forward_backward(
        self,
        micro_batches: Sequence[MicroBatch],
        *,
        on_bucket: Callable[[GradBucket], None] | None = None,
        on_micro_batch: Callable[[int], None] | None = None,
    ) -> list[MicroBatchResult]:
        """See :class:`hocket.core.protocols.Replica`; all ranks of the pipeline call with the same.

        A micro-batch without utterances adds nothing; where other groups wait for this one in the forward
        pass, a tiny input is run in its place, and its gradient is left out. With several chunks on a rank,
        buckets are handed out at the end: one chunk's last backward pass comes after those of the others.
        """
        try:
            return self._run(micro_batches, on_bucket or _nobody, on_micro_batch)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        self._gradients.abandon()
        raise OutOfMemory(self._position, reason)

    def _run(
        self,
        micro_batches: Sequence[MicroBatch],
        tell: Callable[[GradBucket], None],
        on_micro_batch: Callable[[int], None] | None,
    ) -> list[MicroBatchResult]:
        runs = [p for p, each in enumerate(micro_batches) if each.ids or self.needs_equal_slots]
        given = [self._filled(each, each.num_views) for each in map(micro_batches.__getitem__, runs)]
        for stage in self._stages.values():
            stage.begin(given)
        order = make_order(self._schedule, self._pipeline.world_size, self._chunks, len(given))
        actions = order[self._pipeline.rank]
        gradients, alone = self._gradients, _Alone(self.buckets, self._chunks)
        stale = True
        for number, action in enumerate(actions):
            self._position = position = runs[action.micro_batch]
            if action.kind == "forward":
                self._take(action)
                continue
            if stale or on_micro_batch is not None:
                gradients.discard()
                stale = False
            if on_micro_batch is None and number == len(actions) - 1:
                gradients.watch(tell)
            gradients.leave_out(not micro_batches[position].ids)
            self._take(action)
            gradients.complete()
            if on_micro_batch is not None and alone.complete(position):
                gradients.add_up()
                on_micro_batch(position)
        if not actions:
            self.zero_grad()
        if not actions or on_micro_batch is not None:  # nothing is under way
            for bucket in self.buckets:
                tell(bucket)
        gradients.finish()
        for stage in self._stages.values():
            stage.finish()
        losses = self._losses(len(given))
        return [
            MicroBatchResult(micro_batches[position].index, loss)
            for position, loss in zip(runs, losses, strict=True)
            if micro_batches[position].ids
        ]

    @torch.no_grad()
    def evaluate(self, micro_batch: MicroBatch) -> Evaluated | None:
        """See :class:`hocket.core.protocols.Replica`: one stage after the other."""
        if not micro_batch.ids and not self.needs_equal_slots:
            return None
        found, batch = None, self._filled(micro_batch, 1)
        for stage in self._stages.values():
            found = stage.evaluate(batch)
        rows, frames = cast(Cuttable, self.model).evaluated_shape(batch)
        if found is None:
            losses_B = torch.empty(rows, dtype=torch.float64, device=self.device)
            best_BT = torch.empty((rows, frames), dtype=torch.int64, device=self.device)
            lens_B = torch.empty(rows, dtype=torch.int64, device=self.device)
        else:
            losses_B, best_BT, lens_B = found.losses_B.double(), found.best_BT, found.lens_B
        for tensor in (losses_B, best_BT, lens_B):
            self._pipeline.broadcast(tensor, self._source)
        self._gradients.let_go()
        return Evaluated(losses_B, best_BT, lens_B) if micro_batch.ids else None

    def fit_memory(self, largest: Sequence[MicroBatch]) -> None:
        """See :class:`hocket.core.protocols.Replica`: a target is refused for stages of a pipeline."""

    def add_as_integers(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """See :class:`hocket.core.protocols.Replica`: stages add up nothing, what is inside them may."""
        self._gradients.add_as_integers(rounded)

    def zero_grad(self) -> None:
        """Clear all buckets."""
        for bucket in self.buckets:
            bucket.flat.zero_()

    def _take(self, action: Action) -> None:
        """Wait for what an action needs, and run it."""
        stage, free = self._stages[action.stage], self._now()
        received = stage.receive(action.kind)
        start = self._now()
        if action.kind == "forward":
            stage.forward(action.micro_batch, received)
        else:
            stage.backward(action.micro_batch, received)
        if self.spans is not None:
            self.spans.append(Span(action, free, start, self._now()))

    def _now(self) -> float:
        if self.spans is None:
            return 0.0
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
        return clock.monotonic()

    def _losses(self, num: int) -> Sequence[torch.Tensor]:
        """The loss of each micro-batch, on every rank, in float64."""
        if not num:
            return []
        if self._pipeline.rank == self._source:
            of_last = self._stages[max(self._stages)].losses
            losses = torch.stack([of_last[position].double() for position in range(num)])
        else:
            losses = torch.empty(num, dtype=torch.float64, device=self.device)
        self._pipeline.broadcast(losses, self._source)
        return losses.unbind()

    def _filled(self, micro_batch: MicroBatch, num_views: int) -> MicroBatch:
        """The micro-batch, or a tiny real input for a slot without work."""
        if micro_batch.ids:
            return micro_batch
        return filler(micro_batch.features_BTF.shape[-1], num_views, self._kind)


class _Alone:
    """One micro-batch's gradient alone, out of the backward passes of all chunks of a rank."""

    def __init__(self, buckets: list[GradBucket], chunks: int) -> None:
        self._buckets, self._chunks = buckets, chunks
        self._kept: dict[int, tuple[int, list[torch.Tensor]]] = {}

    def complete(self, position: int) -> bool:
        """A pass of a micro-batch has filled the buckets; True when they hold all of its gradient.

        Each parameter has its gradient from one chunk, and zeros from the others: no sum is rounded.
        """
        done, kept = self._kept.pop(position, (0, []))
        for held, value in zip(self._values(), kept, strict=bool(kept)):
            held.add_(value)
        if done + 1 == self._chunks:
            return True
        self._kept[position] = done + 1, [value.clone() for value in self._values()]
        return False

    def _values(self) -> Iterator[torch.Tensor]:
        for bucket in self._buckets:
            yield bucket.flat
            if bucket.integers is not None:
                yield bucket.integers


def balanced(model: torch.nn.Module, degree: int, chunks: int = 1) -> list[range]:
    """The pieces of each stage, ``chunks`` on each of ``degree`` ranks, so that they cost nearly the same.

    Raises :class:`~hocket.core.errors.UsageError` when there are more stages than pieces.
    """
    return balance([piece.cost for piece in cast(Cuttable, model).pieces(TYPICAL_FRAMES)], degree, chunks)


def cut(model: torch.nn.Module, stages: Sequence[range], degree: int, rank: int) -> None:
    """Leave a whole model the pieces of the stages of one rank of ``degree``."""
    cast(Cuttable, model).keep_pieces(set(chain.from_iterable(stages[rank::degree])))


def check_learning(model: torch.nn.Module, stages: Sequence[range], degree: int) -> None:
    """Raise :class:`~hocket.core.errors.UsageError` when a rank would hold frozen parameters alone.

    The model must be whole; all ranks find the same.
    """
    names = [piece.name for piece in cast(Cuttable, model).pieces(TYPICAL_FRAMES)]
    for rank in range(degree):
        own = [names[piece] for piece in chain.from_iterable(stages[rank::degree])]
        if not any(p.requires_grad for name in own for p in model.get_submodule(name).parameters()):
            raise UsageError(
                f"layout: with pp={degree}, stage {rank + 1} of the pipeline ({', '.join(own)}) is frozen: "
                "nothing is learnt there",
                "Freeze less, or use fewer stages.",
            )


def _nobody(_bucket: GradBucket) -> None:
    """Nobody waits for it."""
