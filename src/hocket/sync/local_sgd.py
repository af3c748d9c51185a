"""Local SGD: replicas step by themselves and agree every so many steps.

One round: ``sync_every`` *inner steps*, each replica with the gradient of its own micro-batches, then an
*outer step* with the mean way that the replicas went. Gradients are divided by the tokens of the whole
global batch over N, the same number on every replica, so that a replica weighs as much as the tokens it
was dealt: with SGD and an outer step after every inner step, the mean is all-reduce.

Stich, "Local SGD converges fast and communicates little", ICLR 2019; the outer optimisers' papers stand
in :mod:`hocket.sync.outer`; going on while the exchange is under way, Wang et al., "Overlap local-SGD",
ICASSP 2020.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field, model_validator

from hocket.comms.communicator import Handle
from hocket.core import clock
from hocket.core.protocols import GradBucket, PendingReport, RankPart, Replica, SyncStrategy
from hocket.core.work import GlobalBatch
from hocket.sync.agreement import clip_factor, flat_norm, step_or_skip
from hocket.sync.compression import CompressionSettings, NoCompression
from hocket.sync.outer import Average, OuterSettings
from hocket.sync.rounds import Round, RoundReport
from hocket.sync.settings import SyncBase, SyncContext
from hocket.sync.state import Within, expect


class LocalSgdSettings(SyncBase):
    """Replicas step by themselves and agree every ``sync_every`` steps."""

    name: Literal["local_sgd"] = "local_sgd"

    sync_every: int = Field(default=16, ge=1)
    """Inner steps of a round."""

    outer: OuterSettings = Average()
    """What is made of the mean way: average, bmuf or nesterov."""

    compression: CompressionSettings = NoCompression()
    """How pseudogradients are made fewer bytes: as in ``all_reduce``."""

    overlap_steps: int = Field(default=0, ge=0)
    """Inner steps of the next round that are taken while the exchange is under way; 0 waits for it."""

    @model_validator(mode="after")
    def _within_a_round(self) -> LocalSgdSettings:
        if self.overlap_steps > self.sync_every:
            raise ValueError("overlap_steps is at most sync_every")
        return self

    @property
    def steps_to_report(self) -> int:
        """Ranks tell each other when a round's exchange is over."""
        return self.sync_every + self.overlap_steps

    def make(self, context: SyncContext) -> SyncStrategy:
        """See :class:`hocket.sync.settings.SyncBase`."""
        return LocalSgd(self, context)


class LocalSgd:
    """See the module. All that outlives a round: the outer optimiser's momentum, the exchange's residuals."""

    per_micro_batch = False
    per_replica_optimiser = True

    def __init__(self, settings: LocalSgdSettings, context: SyncContext) -> None:
        self._settings, self._context = settings, context
        self._communicator = context.communicator

    @torch.no_grad()
    def attach(self, replica: Replica) -> None:
        """Take the replica's weights for the agreed ones, and allocate a copy of them (two with overlap)."""
        self._replica, self._inside = replica, replica.inside
        self._buckets, self._device = replica.buckets, replica.device
        self._anchors = [torch.empty_like(bucket.flat) for bucket in self._buckets]
        self._mine = [torch.empty_like(anchor) for anchor in self._anchors] if self._overlaps else []
        self._ways = self._buckets  # gradients are used up when ways are needed
        if self._overlaps:
            self._ways = [
                GradBucket(b.index, b.names, b.parameters, torch.empty_like(b.flat), b.counted)
                for b in self._buckets
            ]
        for bucket, anchor in zip(self._buckets, self._anchors, strict=True):
            torch._foreach_copy_(_views(bucket, anchor), list(bucket.parameters))
        self._outer = self._settings.outer.make(self._anchors, self._communicator.world_size)
        self._exchange = self._settings.compression.make(self._communicator, self._ways)
        self._round = Round(self._communicator, self._replica)
        self._sent: tuple[Round, Handle] | None = None
        self._consistent = True

    @property
    def _overlaps(self) -> bool:
        return self._settings.overlap_steps > 0

    def begin_step(self, batch: GlobalBatch, *, settle: bool) -> None:
        """Take the integer that sums of losses are divided by, and see what is due after this step."""
        self._per_token = self._communicator.world_size / max(1, batch.total_tokens)
        self._sent_before = self._communicator.bytes_sent
        self._last = batch.step + 1 == self._context.num_steps
        self._ends_round = self._last or (batch.step + 1) % self._settings.sync_every == 0
        self._settle = settle or self._last
        self._consistent = False

    def on_grad_ready(self, bucket: GradBucket) -> None:
        """Nothing is sent within a round."""

    def on_micro_batch(self, position: int) -> None:
        """Not used."""

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> PendingReport:
        """An inner step; then what is due: taking in the last exchange, starting the next."""
        told, number = self._round, self._round.num_steps
        self._inner_step(optimizer, part)
        start = clock.monotonic()
        if self._sent is not None and (
            self._ends_round or self._round.num_steps == self._settings.overlap_steps
        ):
            self._take_in(at_once=False)
        if self._ends_round:
            self._send()
            if self._settle or not self._overlaps:
                self._take_in(at_once=True)
                self._consistent = self._settle or not self._overlaps
        waited = clock.monotonic() - start
        return RoundReport(told, number, waited, self._communicator.bytes_sent - self._sent_before)

    def _inner_step(self, optimizer: torch.optim.Optimizer, part: RankPart) -> None:
        facts = torch.zeros(2, dtype=torch.float64, device=self._device)
        if part.results and self._replica.speaks:
            losses = torch.stack([result.loss.to(torch.float64) for result in part.results])
            facts[0], facts[1] = losses.nan_to_num(0.0, 0.0, 0.0).sum(), (~losses.isfinite()).sum()
        self._inside.all_reduce(facts).wait()  # a replica steps, or skips, as one
        loss, bad = facts
        norm = flat_norm(self._buckets, self._inside) * self._per_token
        factor = clip_factor(norm, self._context.max_grad_norm) * self._per_token
        for bucket in self._buckets:
            bucket.flat.mul_(factor)
        skipped = step_or_skip(optimizer, bad, norm)
        self._round.add(part, loss, skipped, norm)

    def _send(self) -> None:
        """End the round: send the way that this replica went, and the facts of its steps."""
        for number, (way, anchor) in enumerate(zip(self._ways, self._anchors, strict=True)):
            torch._foreach_copy_(_views(way, way.flat), list(way.parameters))
            torch.sub(anchor, way.flat, out=way.flat)
            if self._overlaps:
                self._mine[number].copy_(way.flat)
            self._exchange.start(way, 1.0 / self._communicator.world_size)
        self._sent = (self._round, self._round.send())
        self._round = Round(self._communicator, self._replica)

    def _take_in(self, *, at_once: bool) -> None:
        """Take the outer step; lay on top of it what this replica did since it sent, if not ``at_once``."""
        assert self._sent is not None
        told, handle = self._sent
        self._sent = None
        unit = self._exchange.finish()
        handle.wait()
        skipped = 1.0 - flat_norm(self._ways, self._inside).isfinite().to(torch.float32)
        for way in self._ways:
            way.flat.mul_(unit).masked_fill_(skipped > 0, 0.0)
        for mine, anchor in zip(self._mine, self._anchors, strict=False):
            mine.sub_(anchor)  # minus the weights that were sent
        self._outer.step(self._anchors, [way.flat for way in self._ways])
        for number, (bucket, anchor) in enumerate(zip(self._buckets, self._anchors, strict=True)):
            if not at_once:
                moved = self._mine[number].add_(anchor)
                torch._foreach_add_(list(bucket.parameters), _views(bucket, moved))
            else:
                torch._foreach_copy_(list(bucket.parameters), _views(bucket, anchor))
        self._exchange.settle(skipped)
        told.receive(skipped)

    def consistent_point(self) -> bool:
        """At the end of a round whose exchange was waited for."""
        return self._consistent

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The outer momentum by parameter, the same on all ranks, and what the exchange keeps."""
        state = {f"exchange.{name}": value for name, value in self._exchange.state_dict().items()}
        for bucket, momentum in zip(self._buckets, self._outer.momenta, strict=False):
            state.update({f"momentum.{name}": view for name, view in bucket.views(momentum)})
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The momentum as it was, on any number of workers; the exchange deals out its own."""
        prefix = "exchange."
        expect(
            [name for name in state if not name.startswith(prefix)],
            ["momentum.*"] * bool(self._outer.momenta),
        )
        for bucket, momentum in zip(self._buckets, self._outer.momenta, strict=False):
            for name, view in bucket.views(momentum):
                view.copy_(state[f"momentum.{name}"])
        self._exchange.load_state_dict(Within(state, prefix))


def _views(bucket: GradBucket, flat: torch.Tensor) -> list[torch.Tensor]:
    return [view for _, view in bucket.views(flat)]
