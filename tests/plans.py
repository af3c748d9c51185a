"""Corpora that are columns only, and plans of batches over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.order import block_starts
from hocket.core.cost import CostModel

COST = CostModel(a0=2e-3, a=1e-4, b=1e-5, c=2e-9, d=1e-9)


@dataclass(frozen=True)
class Columns:
    num_samples: npt.NDArray[np.int64]
    num_tokens: npt.NDArray[np.int32]
    block: npt.NDArray[np.int32]
    key: npt.NDArray[np.uint64]
    num_speakers: int = 40

    @property
    def total_samples(self) -> int:
        return int(self.num_samples.sum())

    @property
    def block_starts(self) -> npt.NDArray[np.int64]:
        return block_starts(self.block)

    @property
    def speaker(self) -> npt.NDArray[np.int32]:
        if self.num_speakers == 0:
            return np.full(len(self.key), -1, np.int32)
        return (self.key % np.uint64(self.num_speakers)).astype(np.int32)


def columns(count: int, seed: int = 0, block_size: int = 16, mean_seconds: float = 10.0) -> Columns:
    draw = np.random.default_rng(seed)
    seconds = np.clip(draw.lognormal(np.log(mean_seconds), 0.5, count), 0.5, 35.0)
    return Columns(
        num_samples=(seconds * 16000).astype(np.int64),
        num_tokens=np.maximum(1, seconds * 3).astype(np.int32),
        block=(np.arange(count) // block_size).astype(np.int32),
        key=draw.integers(0, 2**64, count, dtype=np.uint64),
    )


def make_plan(utterances: Columns, seed: int = 0, **changes: object) -> BatchPlan:
    given = {"seconds": 120.0, "micro_batches_per_step": 4, "pool_steps": 8, "probe_every": 0, **changes}
    return BatchPlan(
        utterances, BatchSettings.model_validate(given), COST, seed=seed, speed_percents=(90, 100, 110)
    )


def rows_of_epoch(plan: BatchPlan, epoch: int) -> list[int]:
    first = epoch * plan.steps_per_epoch
    return [
        int(row)
        for step in range(first, first + plan.steps_per_epoch)
        for micro_batch in plan.global_batch(step).micro_batches
        for row in micro_batch.rows
    ]
