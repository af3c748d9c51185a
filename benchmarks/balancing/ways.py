"""The two ways of batching, as epochs of steps: what every rank of every step computes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from lhotse import CutSet, MonoCut
from lhotse.dataset import DynamicBucketingSampler

from balancing.lengths import Lengths
from hocket.batching import BatchPlan, BatchSettings, assign
from hocket.core.cost import CostModel
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP


@dataclass
class Epoch:
    """Sums over the steps of an epoch at one degree."""

    degree: int
    num_utterances: int = 0
    real_frames: int = 0
    padded_frames: int = 0
    slowest_over_mean: list[float] = field(default_factory=list)
    slowest: float = 0.0
    """Predicted seconds of the slowest rank, over all steps."""
    ideal: float = 0.0
    """Predicted seconds of all utterances, alone and without padding, over the number of ranks."""
    partial: list[float] = field(default_factory=list)
    """``slowest_over_mean`` of the steps that were not whole."""
    num_batches: int = 0
    seconds: float = 0.0
    """That one rank takes to find its batches of the epoch."""

    @property
    def padding(self) -> float:
        """Share of the padded frames that are padding."""
        return 1 - self.real_frames / max(1, self.padded_frames)

    @property
    def useful(self) -> float:
        """Share of the ranks' time that goes to speech: what padding and waiting leave."""
        return self.ideal / self.slowest if self.slowest else 0.0

    @property
    def mean(self) -> float:
        """Slowest over mean rank of a step, in the mean over steps."""
        return float(np.mean(self.slowest_over_mean))

    @property
    def p95(self) -> float:
        """The same at the 95th percentile of the steps."""
        return float(np.quantile(self.slowest_over_mean, 0.95))

    def add(self, loads: list[float], *, whole: bool = True) -> None:
        """A step's predicted seconds by rank."""
        mean = sum(loads) / len(loads)
        ratio = max(loads) / mean if mean else 1.0
        (self.slowest_over_mean if whole else self.partial).append(ratio)
        self.slowest += max(loads)


@dataclass(frozen=True)
class Ours:
    """Settings of hocket's plan."""

    micro_batch_seconds: float
    micro_batches_per_step: int
    pool_steps: int = 32
    frame_multiple: int = 8

    @property
    def step_seconds(self) -> float:
        """Audio of a step."""
        return self.micro_batch_seconds * self.micro_batches_per_step

    def settings(self) -> BatchSettings:
        """As a recipe says it."""
        return BatchSettings(
            seconds=self.step_seconds,
            micro_batches_per_step=self.micro_batches_per_step,
            pool_steps=self.pool_steps,
            frame_multiple=self.frame_multiple,
        )

    def epochs(self, lengths: Lengths, cost: CostModel, degrees: list[int], epochs: int = 1) -> list[Epoch]:
        """What ``epochs`` epochs come to at each degree. The batches are cut once: they are the same.

        Every utterance is checked to be there once an epoch. The time is that of the cut and of one
        rank's :func:`assign`.
        """
        plan = BatchPlan(lengths, self.settings(), cost, seed=0)
        found = [Epoch(degree) for degree in degrees]
        per_item = float(_alone(lengths, cost).sum()) * epochs
        cutting = 0.0
        for epoch in range(epochs):
            seen = np.zeros(len(lengths), np.int64)
            for within in range(plan.steps_per_epoch):
                begun = time.perf_counter()
                batch = plan.global_batch(epoch * plan.steps_per_epoch + within)
                cutting += time.perf_counter() - begun
                costs = [spec.cost for spec in batch.micro_batches]
                for spec in batch.micro_batches:
                    seen[spec.rows] += 1
                for one in found:
                    begun = time.perf_counter()
                    shares = assign(costs, one.degree)
                    one.seconds += time.perf_counter() - begun
                    one.add([sum(costs[place] for place in share) for share in shares])
                    one.real_frames += batch.total_frames
                    one.padded_frames += batch.padded_frames
                    one.num_batches += len(costs)
                    one.num_utterances += batch.num_utterances
            if not (seen == 1).all():
                raise AssertionError("an epoch is not every utterance once")
        num_steps = epochs * plan.steps_per_epoch
        for one in found:
            one.seconds += cutting
            one.ideal = (per_item + num_steps * self.micro_batches_per_step * cost.a0) / one.degree
        return found


@dataclass(frozen=True)
class Theirs:
    """Settings of lhotse's sampler."""

    num_buckets: int = 30
    quadratic_duration: float | None = None
    sync_buckets: bool = True
    drop_last: bool = True
    buffer_size: int = 20000
    max_cuts: int | None = None
    join: int = 1
    """Micro-batches that a batch is as large as; a rank takes as many fewer."""

    def __str__(self) -> str:
        words = [f"{self.num_buckets} buckets"]
        if self.quadratic_duration:
            words.append(f"quadratic {self.quadratic_duration:g}")
        if not self.sync_buckets:
            words.append("not in sync")
        if not self.drop_last:
            words.append("drop_last=False")
        if self.buffer_size != 20000:
            words.append(f"buffer {self.buffer_size}")
        if self.join > 1:
            words.append(f"batches {self.join} times as large")
        if self.max_cuts:
            words.append(f"max_cuts {self.max_cuts}")
        return ", ".join(words)

    def epoch(self, cuts: CutSet, lengths: Lengths, cost: CostModel, degree: int, ours: Ours) -> Epoch:
        """An epoch at ``degree``, with as much audio in a step as ``ours`` has.

        With ``quadratic_duration`` the limit is raised so that a batch holds as much audio in the mean.
        """
        join = min(self.join, ours.micro_batches_per_step // degree)
        per_rank = ours.micro_batches_per_step // degree // join
        seconds = lengths.num_samples / SAMPLE_RATE
        limit = ours.micro_batch_seconds * join
        if self.quadratic_duration is not None:
            limit *= 1 + float((seconds**2).sum() / seconds.sum()) / self.quadratic_duration
        sampler = DynamicBucketingSampler(
            cuts,
            max_duration=limit,
            num_buckets=self.num_buckets,
            quadratic_duration=self.quadratic_duration,
            sync_buckets=self.sync_buckets,
            drop_last=self.drop_last,
            buffer_size=self.buffer_size,
            max_cuts=self.max_cuts,
            shuffle=True,
            world_size=degree,
            rank=0,
        )
        found = Epoch(degree)
        loads, turns = [0.0] * degree, 0
        for batches in _of_all_ranks(sampler, degree, found):
            for rank, batch in enumerate(batches):
                rows = np.array([int(cut.id.split("_")[0]) for cut in batch])
                frames = lengths.num_samples[rows] // HOP
                loads[rank] += float(
                    cost.micro_batch(len(rows), frames.max(), lengths.num_tokens[rows].max())
                )
                found.real_frames += int(frames.sum())
                found.padded_frames += int(frames.max()) * len(rows)
                found.num_utterances += len(rows)
                found.ideal += float(_alone(lengths, cost, rows).sum() + cost.a0) / degree
            turns += 1
            if turns == per_rank:
                found.add(loads)
                loads, turns = [0.0] * degree, 0
        if turns:
            found.add(loads, whole=False)
        return found


def as_cuts(lengths: Lengths) -> CutSet:
    """The same utterances as lhotse's cuts; a cut's id is its row."""
    seconds = lengths.num_samples / SAMPLE_RATE
    return CutSet.from_cuts(
        MonoCut(id=str(row), start=0.0, duration=float(length), channel=0)
        for row, length in enumerate(seconds)
    )


def _of_all_ranks(sampler: DynamicBucketingSampler, degree: int, found: Epoch) -> Iterator[list[CutSet]]:
    """What the ranks get at each turn.

    A sampler draws the batches of all ranks and keeps its own (``CutSampler.__next__``); here all are
    kept. So the time is what one rank takes.
    """
    iter(sampler)
    while True:
        batches: list[CutSet] = []
        begun = time.perf_counter()
        try:
            while len(batches) < degree:
                batches.append(sampler._next_batch())
        except StopIteration:
            if batches and not sampler.drop_last:  # shared out again, as lhotse does
                everything = [cut for batch in batches for cut in batch]
                if len(everything) >= degree:
                    yield list(CutSet.from_cuts(everything).split(degree))
            return
        found.seconds += time.perf_counter() - begun
        found.num_batches += degree
        yield batches


def _alone(lengths: Lengths, cost: CostModel, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    return cost.per_item(lengths.num_samples[rows] // HOP, lengths.num_tokens[rows])
