"""The training loop: one screen for the run, one for the step."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import torch

from hocket.batching import BatchPlan
from hocket.comms.heartbeat import WAITING, Heartbeat
from hocket.comms.supervision import on_signals
from hocket.core import clock
from hocket.core.protocols import (
    PendingReport,
    RankPart,
    Replica,
    SyncStrategy,
    utterance_digest,
)
from hocket.core.work import EMPTY, GlobalBatch, MicroBatch
from hocket.corpus.loading import Loader, Work
from hocket.model.config import ModelConfig
from hocket.training.averaging import Average
from hocket.training.computing import Computed, Computing
from hocket.training.folder import RunFolder
from hocket.training.holding import hold
from hocket.training.journal import Journal
from hocket.training.memory import MemoryGuard
from hocket.training.optimiser import set_learning_rate
from hocket.training.pauses import Pauses
from hocket.training.preflight import does_not_fit, preflight
from hocket.training.probing import Looked
from hocket.training.progress import Progress
from hocket.training.rank_seconds import RankSeconds
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.recording import Recorder
from hocket.training.result import write_result
from hocket.training.seat import Seat
from hocket.training.speeds import Speeds


@dataclass(frozen=True)
class _Taken:
    """A step that was handed to the device and not yet looked at."""

    batch: GlobalBatch
    report: PendingReport
    seconds: dict[str, float]
    looked: Looked | None
    """What a probe step saw."""


@dataclass
class Trainer:
    """Everything a rank trains with; :mod:`hocket.training.assembly` puts it together."""

    recipe: TrainRecipe
    folder: RunFolder
    seat: Seat
    plan: BatchPlan
    loader: Loader
    replica: Replica
    memory: MemoryGuard
    sync: SyncStrategy
    optimiser: torch.optim.Optimizer
    rates: Rates
    average: Average
    speeds: Speeds
    recorder: Recorder
    pauses: Pauses
    journal: Journal
    heartbeat: Heartbeat
    progress: Progress
    config: ModelConfig

    def __post_init__(self) -> None:
        self.num_steps = self.rates.num_steps
        self._taken: deque[_Taken] = deque()
        self._watch = clock.Stopwatch()
        self._asked_to_stop = False
        self.rank_seconds = RankSeconds(self.progress, self.seat.world, self.replica.device)
        faults = self.recipe.debug.out_of_memory
        self._computing = Computing(
            self.replica,
            self.sync,
            self.memory,
            self.seat,
            faults,
            measures_noise=self.recipe.no_noise_scale is None,
        )
        on_signals([signal.SIGTERM, signal.SIGUSR1], self._ask_to_stop)

    def run(self) -> bool:
        """Train to the last step, or until validations bring nothing better.

        False when a signal ended it before that, at a checkpoint.
        """
        pauses, first = self.pauses, self.progress.step
        if first == 0:
            self.heartbeat.beat("preflight", 0)
            if preflight(self.plan, self.loader, self.replica, self.memory):
                self.journal.write("out_of_memory", step=0, micro_batches=[], before_training=True)
        stop = validates = saves = False
        with (
            self.progress.running(),
            closing(self.loader),
            self.loader.prefetch(self._work(first)) as loaded,
        ):
            if first and pauses.validates(first) and self.progress.validated.step != first:
                pauses.pause(first, validates=True, saves=False)  # a signal came in its place
            for step in range(first, self.num_steps):
                if pauses.in_vain:
                    break
                validates, saves = validates or pauses.validates(step + 1), saves or pauses.saves(step + 1)
                self._taken.append(
                    self._step(self.plan.global_batch(step), loaded, settle=stop or validates or saves)
                )
                stop = self._settle(keep=1) or stop  # the last one is computed while the next is queued
                if (stop or validates or saves) and self.sync.consistent_point():
                    stop = self._settle(keep=0) or stop
                    assert not self._taken, "a consistent point, and steps that nobody was told of"
                    pauses.pause(step + 1, validates=validates and not stop, saves=saves or stop)
                    validates = saves = False
                    if stop:
                        break
        pauses.finish(average=0 if stop else self.recipe.checkpoint.average)
        return not stop

    def result(self, seconds_by_rank: list[dict[str, float]]) -> dict[str, Any]:
        """Write what a finished run leaves behind; on one rank. The summary."""
        return write_result(
            self.folder,
            self.recipe,
            self.replica.model if self.seat.layout.replica_size == 1 else self.config,
            self.progress,
            workers=self.seat.world.world_size,
            num_steps=self.num_steps,
            average=self.average,
            matrix_rate=round(self.recorder.ceiling.matrix_rate),
            seconds_by_rank=seconds_by_rank,
            peak_mb=self.memory.peak_mb,
        )

    def _step(self, batch: GlobalBatch, loaded: Iterator[list[MicroBatch]], *, settle: bool) -> _Taken:
        """One optimiser step: read, compute, agree."""
        watch = self._watch
        hold(self.recipe.debug.hold, batch.step)
        self.heartbeat.beat("reading", batch.step)
        with watch.time("data"):
            micro_batches = next(loaded)
        digest = utterance_digest([key for m in micro_batches for key in m.keys])
        self.seat.check_copies(digest, self.replica.device)
        set_learning_rate(self.optimiser, self.rates.at(batch.step))
        part = RankPart(results=(), num_dropped=self._list_dropped(batch, micro_batches), utterances=digest)
        computed, report = self._try(batch, micro_batches, part, settle=settle, again=False)
        while self.memory.splits and report.result().out_of_memory:
            found = self.memory.agree(batch, computed.failed)
            self.journal.write("out_of_memory", step=batch.step, micro_batches=found)
            computed, report = self._try(batch, micro_batches, part, settle=settle, again=True)
        looked = None if computed.probe is None else computed.probe.send(self.seat.replicas)
        with watch.time("compute"):
            self.average.update(batch.step)
        return _Taken(batch, report, watch.take(), looked)

    def _try(
        self,
        batch: GlobalBatch,
        micro_batches: list[MicroBatch],
        part: RankPart,
        *,
        settle: bool,
        again: bool,
    ) -> tuple[Computed, PendingReport]:
        """Compute and agree; when some rank had too little memory, all skip the step alike."""
        watch = self._watch
        self.heartbeat.beat("computing")
        with watch.time("compute"):
            self.sync.begin_step(batch, settle=settle)
            computed = self._computing.run(batch, micro_batches, again=again)
        if computed.failed is not None and not self.memory.splits:
            raise does_not_fit(batch.micro_batches[computed.failed.index])
        part = replace(
            part,
            results=computed.results,
            busy_seconds=watch.seconds["data"] + watch.seconds["compute"],
            stop=self._asked_to_stop or self.folder.stop.exists(),
            out_of_memory=computed.failed is not None,
        )
        self.heartbeat.beat(WAITING)
        with watch.time("agreement"):
            return computed, self.sync.step(self.optimiser, part)

    def _settle(self, *, keep: int) -> bool:
        """Read what came out of all steps that are ready but the last ``keep``; True when told to stop."""
        stop = False
        while len(self._taken) > keep and self._taken[0].report.ready():
            taken = self._taken.popleft()
            with self._watch.time("device"):  # counted with the step that is being queued
                report = taken.report.result()
            self.recorder.write(taken.batch, report, taken.seconds, taken.looked)
            stop = report.stop or stop
        return stop

    def _work(self, first: int) -> Iterator[Work]:
        """This rank's micro-batches of every step to come, for the loader to read ahead."""
        for step in range(first, self.num_steps):
            batch = self.plan.global_batch(step)
            mine = self.speeds.deal(batch, self.seat.layout).of(self.seat.replica, self.seat.group)
            specs = [EMPTY if position is None else batch.micro_batches[position] for position in mine]
            yield specs, batch.epoch, step

    def _list_dropped(self, batch: GlobalBatch, micro_batches: list[MicroBatch]) -> int:
        """Append utterances that could not be read to the run's list; how many there were."""
        dropped = [entry for micro_batch in micro_batches for entry in micro_batch.dropped]
        if dropped and self.replica.speaks:
            self.folder.list_dropped(batch.step, dropped)
        return len(dropped)

    def _ask_to_stop(self, _signal: signal.Signals) -> None:
        self._asked_to_stop = True
