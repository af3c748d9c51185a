"""The replica that runs its micro-batches one after another: the whole model, or a share of every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from hocket.comms.communicator import Alone
from hocket.core.held import Held, Place
from hocket.core.protocols import Evaluated, GradBucket, Inside, MicroBatchResult, OutOfMemory
from hocket.core.work import MicroBatch
from hocket.hardware.memory import give_back_memory, is_out_of_memory
from hocket.parallel.gradients import Gradients, WholeGradients
from hocket.parallel.held import held_by
from hocket.parallel.precision import Precision, autocast
from hocket.parallel.recompute import Recomputing


@dataclass(frozen=True)
class Share:
    """What a rank's replica is of a whole one; by default all of it."""

    places: Mapping[str, Place] = field(default_factory=dict)
    """Parameters and buffers of which this rank holds a part only."""
    inside: Inside = field(default_factory=Alone)
    speaks: bool = True
    needs_equal_slots: bool = False
    recomputing: Recomputing | None = None


class WholeReplica:
    """Runs micro-batches one after another and accumulates their gradients in the buckets."""

    def __init__(
        self,
        model: torch.nn.Module,
        device: torch.device,
        *,
        precision: Precision,
        bucket_mb: float = 4.0,
        gradients: Gradients | None = None,
        share: Share | None = None,
    ) -> None:
        share = share or Share()
        self.model, self.device, self._precision = model, device, precision
        self._gradients: Gradients = gradients or WholeGradients(model, bucket_mb)
        self.buckets: list[GradBucket] = self._gradients.buckets
        self.held: list[Held] = held_by(model, share.places, self.buckets)
        self.inside, self.speaks, self.needs_equal_slots = share.inside, share.speaks, share.needs_equal_slots
        self.recomputing = share.recomputing
        self._kind = next(model.parameters()).dtype
        self._position = 0

    def forward_backward(
        self,
        micro_batches: Sequence[MicroBatch],
        *,
        on_bucket: Callable[[GradBucket], None] | None = None,
        on_micro_batch: Callable[[int], None] | None = None,
    ) -> list[MicroBatchResult]:
        """See :class:`hocket.core.protocols.Replica`.

        A micro-batch without utterances adds nothing. Where other groups wait for this one in the
        forward pass, a tiny input is run in its place, and its gradient is left out.
        """
        results: list[MicroBatchResult] = []
        try:
            self._run(micro_batches, results, on_bucket or _keep, on_micro_batch)
            return results
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error)
        # Outside of the handler: the error's traceback held what was computed so far.
        self._gradients.abandon()
        give_back_memory(self.device)
        raise OutOfMemory(self._position, reason)

    def _run(
        self,
        micro_batches: Sequence[MicroBatch],
        results: list[MicroBatchResult],
        tell: Callable[[GradBucket], None],
        on_micro_batch: Callable[[int], None] | None,
    ) -> None:
        gradients = self._gradients
        runs = [p for p, each in enumerate(micro_batches) if each.ids or self.needs_equal_slots]
        for place, position in enumerate(runs):
            self._position, micro_batch = position, micro_batches[position]
            if on_micro_batch is not None or place == 0:
                gradients.discard()
            if on_micro_batch is None and position == runs[-1]:
                gradients.watch(tell)
            gradients.leave_out(not micro_batch.ids)
            loss = self._loss(
                micro_batch if micro_batch.ids else self._tiny(micro_batch, micro_batch.num_views)
            )
            loss.backward()  # type: ignore[no-untyped-call]
            gradients.complete()
            if micro_batch.ids:
                results.append(MicroBatchResult(micro_batch.index, loss.detach()))
            if on_micro_batch is not None:
                gradients.add_up()
                on_micro_batch(position)
        if not runs:
            self.zero_grad()
        if not runs or on_micro_batch is not None:  # nothing is under way
            for bucket in self.buckets:
                tell(bucket)
        gradients.finish()

    @torch.no_grad()
    def evaluate(self, micro_batch: MicroBatch) -> Evaluated | None:
        """See :class:`hocket.core.protocols.Replica`."""
        if not micro_batch.ids and not self.needs_equal_slots:
            return None
        given = micro_batch if micro_batch.ids else self._tiny(micro_batch, 1)
        with autocast(self._precision, self.device):
            found: Evaluated = self.model.evaluate(given.to(self.device))  # type: ignore[operator]
        self._gradients.let_go()
        return found if micro_batch.ids else None

    def fit_memory(self, largest: Sequence[MicroBatch]) -> None:
        """See :class:`hocket.core.protocols.Replica`."""
        if self.recomputing is None or self.recomputing.target is None:
            return
        self._gradients.discard()
        self.recomputing.fit([partial(self._loss, each) for each in largest if each.ids])
        self._gradients.complete()
        self.zero_grad()

    def add_as_integers(self, rounded: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """See :class:`hocket.core.protocols.Replica`."""
        self._gradients.add_as_integers(rounded)

    def zero_grad(self) -> None:
        """Clear all buckets."""
        for bucket in self.buckets:
            bucket.flat.zero_()

    def _loss(self, micro_batch: MicroBatch) -> torch.Tensor:
        with autocast(self._precision, self.device):
            loss: torch.Tensor = self.model.loss(micro_batch.to(self.device))  # type: ignore[operator]
        return loss

    def _tiny(self, empty: MicroBatch, num_views: int) -> MicroBatch:
        """A real input for a slot without work: one short utterance."""
        return filler(empty.features_BTF.shape[-1], num_views, self._kind)


def filler(num_mel_bins: int, num_views: int, dtype: torch.dtype) -> MicroBatch:
    """The least that a model can be run on: one utterance of 32 frames and one token."""
    kind = dtype if dtype == torch.float64 else torch.float32
    return MicroBatch(
        index=-1,
        ids=["filler"],
        features_BTF=torch.zeros((num_views, 32, num_mel_bins), dtype=kind),
        feature_lens_B=torch.tensor([32]),
        tokens_BU=torch.zeros((1, 1), dtype=torch.int64),
        token_lens_B=torch.tensor([1]),
        num_views=num_views,
    )


def _keep(_bucket: GradBucket) -> None:
    """Nobody waits for it."""
