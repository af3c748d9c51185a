"""The training loop: one screen for the run, one for the step."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from hocket.batching import BatchPlan, Deal, deal
from hocket.comms.heartbeat import WAITING, Heartbeat
from hocket.comms.supervision import on_signals
from hocket.core import clock
from hocket.core.errors import RunError
from hocket.core.protocols import (
    PendingReport,
    RankPart,
    Replica,
    StepReport,
    SyncStrategy,
    utterance_digest,
)
from hocket.core.work import EMPTY, GlobalBatch, MicroBatch
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.loading import Loader, Work
from hocket.model.config import ModelConfig
from hocket.sync import SyncBase
from hocket.training import checkpoint_store
from hocket.training.averaging import Average
from hocket.training.ceiling import Ceiling
from hocket.training.checkpoint_average import load_mean
from hocket.training.checkpointer import Checkpointer, collect
from hocket.training.computing import Computed, Computing
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.memory import MemoryGuard
from hocket.training.noise_scale import estimate
from hocket.training.optimiser import set_learning_rate
from hocket.training.preflight import does_not_fit, preflight
from hocket.training.probing import Looked
from hocket.training.progress import Progress
from hocket.training.rank_seconds import RankSeconds
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.result import write_result
from hocket.training.seat import Seat
from hocket.training.speeds import Speeds
from hocket.training.validation import Validation, ValidationReport


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
    corpora: tuple[str, ...]
    loader: Loader
    replica: Replica
    memory: MemoryGuard
    sync: SyncStrategy
    optimiser: torch.optim.Optimizer
    rates: Rates
    average: Average
    validation: Validation | None
    checkpointer: Checkpointer
    journal: Journal
    heartbeat: Heartbeat
    progress: Progress
    ceiling: Ceiling
    config: ModelConfig

    def __post_init__(self) -> None:
        self.num_steps = self.rates.num_steps
        self._taken: deque[_Taken] = deque()
        self._watch = clock.Stopwatch()
        self._asked_to_stop = False
        self.rank_seconds = RankSeconds(self.progress, self.seat.world, self.replica.device)
        assert isinstance(self.recipe.sync, SyncBase)
        self._speeds = Speeds(
            self.recipe.workers.speeds,
            self.seat.layout.dp_replicate,
            self.progress.step,
            self.recipe.loading.prefetch_steps + self.recipe.sync.steps_to_report,
        )
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
        first = self.progress.step
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
            if first and self._validates(first) and self.progress.validated.step != first:
                self._pause(first, validates=True, saves=False)  # a signal came in its place
            for step in range(first, self.num_steps):
                if self._in_vain:
                    break
                validates, saves = validates or self._validates(step + 1), saves or self._saves(step + 1)
                self._taken.append(
                    self._step(self.plan.global_batch(step), loaded, settle=stop or validates or saves)
                )
                stop = self._settle(keep=1) or stop  # the last one is computed while the next is queued
                if (stop or validates or saves) and self.sync.consistent_point():
                    stop = self._settle(keep=0) or stop
                    assert not self._taken, "a consistent point, and steps that nobody was told of"
                    self._pause(step + 1, validates=validates and not stop, saves=saves or stop)
                    validates = saves = False
                    if stop:
                        break
        self.heartbeat.beat("waiting for the last checkpoint")
        self.checkpointer.wait()
        if not stop and self.recipe.checkpoint.average:
            self._average_checkpoints(self.recipe.checkpoint.average)
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
            matrix_rate=round(self.ceiling.matrix_rate),
            seconds_by_rank=seconds_by_rank,
            peak_mb=self.memory.peak_mb,
        )

    def _step(self, batch: GlobalBatch, loaded: Iterator[list[MicroBatch]], *, settle: bool) -> _Taken:
        """One optimiser step: read, compute, agree."""
        watch = self._watch
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
            stop = self._record(self._taken.popleft()) or stop
        return stop

    def _record(self, taken: _Taken) -> bool:
        """Read what came out of a step, and write it down; True when a rank was told to stop."""
        batch = taken.batch
        with self._watch.time("device"):  # counted with the step that is being queued
            report = taken.report.result()
        progress = self.progress
        progress.count(batch, report)
        frames = self._frames_by_corpus(batch)
        progress.count_corpora(frames)
        if report.num_dropped == 0 and report.utterances != self.plan.digest(batch):
            raise RuntimeError(f"step {batch.step} did not learn from exactly the utterances of its plan")

        busiest, mine = max(report.busy_seconds), report.busy_seconds[self.seat.place]
        wait = min(busiest - mine, report.sync_seconds)
        seconds = {
            "data": taken.seconds["data"],
            "compute": taken.seconds["compute"] + taken.seconds.get("device", 0.0),
            "communication": report.sync_seconds - wait,
            "wait": wait,
            "optimiser": taken.seconds["agreement"] - report.sync_seconds,
        }
        speeds = self._speeds.at(batch.step)
        dealt = self._deal(batch)
        uneven = dealt.imbalance(speeds)
        self._speeds.record(batch.step, dealt.loads, self.seat.slowest_of_replicas(report.busy_seconds))
        flops = self.ceiling.flops(batch)
        progress.spend(seconds, uneven, flops, self.ceiling.matrix_rate)
        self.journal.write(
            "step",
            step=batch.step,
            epoch=batch.epoch,
            loss=report.loss_sum / max(1, batch.total_tokens),
            grad_norm=report.grad_norm,
            lr=self.rates.at(batch.step),
            num_frames=batch.total_frames,
            num_utterances=batch.num_utterances,
            **({"frames_by_corpus": frames} if frames else {}),
            seconds={kind: round(value, 6) for kind, value in seconds.items()},
            busy=[round(value, 6) for value in report.busy_seconds],
            padding=round(1 - batch.total_frames / max(1, batch.padded_frames), 6),
            imbalance=round(uneven, 6),
            flops=round(flops),
            utterances=report.utterances,
            skipped=report.skipped,
            bytes_per_step=report.bytes_sent,
            **({"storage": storage} if (storage := self.loader.take_storage_counts()) else {}),
        )
        if taken.looked is not None:
            self._measure_noise(batch, report, taken.looked)
        if progress.skipped_in_a_row >= self.recipe.numerics.max_skipped:
            raise RunError(
                f"{progress.skipped_in_a_row} steps in a row had a loss or gradient that is not finite, "
                f"the last at step {batch.step}",
                "Lower optimiser.lr, or look at the corpus; numerics.max_skipped sets the patience.",
            )
        return report.stop

    def _measure_noise(self, batch: GlobalBatch, report: StepReport, looked: Looked) -> None:
        """Take what a probe step saw into the run's noise scale, and write down what it says."""
        num_units, weights, squares = looked.result()
        if report.skipped or num_units < 2:
            return
        found = estimate(num_units, weights, squares, report.grad_norm, batch.total_tokens)
        noise, settings = self.progress.noise, self.recipe.batch
        noise.add(found, batch.total_tokens, batch.total_frames, batch.num_utterances)
        times = self.plan.times(batch.step)
        told = noise.told(
            settings.seconds * times, settings.micro_batches_per_step * times, HOP / SAMPLE_RATE
        )
        self.journal.write("noise_scale", step=batch.step, epoch=batch.epoch, **asdict(found), **told)

    def _pause(self, step: int, *, validates: bool, saves: bool) -> None:
        """Between two steps, where all replicas agree: validate and save."""
        progress = self.progress
        progress.forget_validation()
        best = False
        if self.validation is not None and validates:
            self.heartbeat.beat("validating")
            with self.average.in_place():
                found = self.validation.run(self.replica)
            best = self._validated(step, found)
        if saves or best or self._in_vain:
            self.heartbeat.beat("saving")
            tensors = collect(self.replica.held, self.optimiser, self.sync, self.seat, self.average)
            self.checkpointer.save(step, tensors, progress.as_dict())

    def _average_checkpoints(self, number: int) -> None:
        """Take the mean of the last checkpoints for the weights, and validate it."""
        self.seat.world.barrier()  # the last one has its name when the leader has waited for it
        whole = checkpoint_store.whole_checkpoints(self.folder.checkpoints)[-number:]
        self.heartbeat.beat("averaging")
        load_mean(whole, self.replica.held)
        found = None
        if self.validation is not None:
            self.heartbeat.beat("validating")
            found = self.validation.run(self.replica)
            self.progress.take_average(found)
        steps = [checkpoint_store.step_of(folder) for folder in whole]
        self.journal.write("average", steps=steps, **({} if found is None else asdict(found)))

    def _validated(self, step: int, found: ValidationReport) -> bool:
        """Record a validation, and whether it was in vain; True when it is the best so far."""
        settings = self.recipe.validation
        best = self.progress.take_validation(found, settings)
        self.journal.write("validation", step=step, **asdict(found), best=best)
        if self._in_vain and step < self.num_steps:
            told = asdict(self.progress.validated)
            self.journal.write("early_stop", **told, metric=settings.metric, patience=settings.patience)
        return best

    @property
    def _in_vain(self) -> bool:
        return self.progress.validated.in_vain(self.recipe.validation.patience)

    def _validates(self, step: int) -> bool:
        every = self.recipe.validation.every_steps
        return step == self.num_steps or (every > 0 and step % every == 0)

    def _saves(self, step: int) -> bool:
        return step == self.num_steps or step % self.recipe.checkpoint.every_steps == 0

    def _work(self, first: int) -> Iterator[Work]:
        """This rank's micro-batches of every step to come, for the loader to read ahead."""
        for step in range(first, self.num_steps):
            batch = self.plan.global_batch(step)
            mine = self._deal(batch).of(self.seat.replica, self.seat.group)
            specs = [EMPTY if position is None else batch.micro_batches[position] for position in mine]
            yield specs, batch.epoch, step

    def _deal(self, batch: GlobalBatch) -> Deal:
        layout, costs = self.seat.layout, [micro_batch.cost for micro_batch in batch.micro_batches]
        return deal(costs, layout.dp_replicate, layout.dp_shard, self._speeds.at(batch.step))

    def _frames_by_corpus(self, batch: GlobalBatch) -> dict[str, int]:
        """Of several corpora; nothing of one alone."""
        if len(self.corpora) == 1:
            return {}
        return dict(zip(self.corpora, self.plan.frames_by_corpus(batch), strict=True))

    def _list_dropped(self, batch: GlobalBatch, micro_batches: list[MicroBatch]) -> int:
        """Append utterances that could not be read to the run's list; how many there were."""
        dropped = [entry for micro_batch in micro_batches for entry in micro_batch.dropped]
        if dropped and self.replica.speaks:
            self.folder.list_dropped(batch.step, dropped)
        return len(dropped)

    def _ask_to_stop(self, _signal: signal.Signals) -> None:
        self._asked_to_stop = True
