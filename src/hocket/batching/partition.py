"""Who shares a micro-batch, and which micro-batches share a step: the ways to partition a pool.

Each is a pure function of the pool and a salt, and each uses every utterance of the pool once. The
one to train with is ``by_cost``. The others are for studies: they cut equal *numbers* of utterances,
as most trainers do, so that what padding, imbalance and the mix of a batch cost can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from hocket.batching.cut import cut_pool, deal_to_steps
from hocket.core.cost import CostModel
from hocket.core.seeds import U64, key, mix

I64 = npt.NDArray[np.int64]

PartitionName = Literal["by_cost", "random", "stratified", "by_speaker"]


@dataclass(frozen=True)
class Pool:
    """The utterances of one pool, one entry each: what a partition may look at."""

    num_frames: I64
    """Feature frames as the speed factor makes them, rounded up to what is padded at least."""
    num_tokens: I64
    keys: U64
    speakers: I64
    """Codes; -1 where nobody knows."""

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, positions: I64) -> Pool:
        """A pool of these utterances alone."""
        return Pool(
            self.num_frames[positions],
            self.num_tokens[positions],
            self.keys[positions],
            self.speakers[positions],
        )

    def costs(self, parts: list[I64], cost: CostModel) -> npt.NDArray[np.float64]:
        """Predicted seconds of micro-batches of these positions, as padded."""
        longest = [self.num_frames[part].max(initial=0) for part in parts]
        most = [self.num_tokens[part].max(initial=0) for part in parts]
        return cost.micro_batch([len(part) for part in parts], longest, most)


Steps = list[list[I64]]
Partition = Callable[[Pool, int, int, CostModel, int], Steps]
"""(pool, number of steps, micro-batches of a step, cost, salt) to positions, by step and micro-batch."""


def by_cost(pool: Pool, num_steps: int, per_step: int, cost: CostModel, salt: int) -> Steps:
    """Like lengths share a micro-batch, equal costs a step; least padding and least waiting."""
    parts = cut_pool(pool.num_frames, pool.num_tokens, pool.keys, cost, num_steps, per_step, salt)
    dealt = deal_to_steps(pool.costs(parts, cost), per_step, salt)
    return [[parts[number] for number in step] for step in dealt]


def random(pool: Pool, num_steps: int, per_step: int, cost: CostModel, salt: int) -> Steps:
    """Equal numbers at random: what a shuffling sampler does. No bias at all, the most padding."""
    order = np.argsort(mix(salt, pool.keys))
    return _in_steps(np.array_split(order, num_steps * per_step), num_steps)


def stratified(pool: Pool, num_steps: int, per_step: int, cost: CostModel, salt: int) -> Steps:
    """Equal numbers, every step and micro-batch a like sample of durations and speakers.

    Utterances are put in order of duration class, in it of speaker, and dealt one at a time, to steps
    first: a step gets its share of every class, and neighbours (a speaker within a class) part.
    Classes are equally large, and as many as the root of the utterances in a micro-batch, which
    leaves durations and speakers about the same say. Utterances without a speaker count as one's.
    The least variance between steps, and as much padding as at random.
    """
    num_groups = num_steps * per_step
    num_classes = max(1, round(math.sqrt(len(pool) / num_groups)))
    ties = mix(salt, pool.keys)
    rank = np.empty(len(pool), np.int64)
    rank[np.lexsort((ties, pool.num_frames))] = np.arange(len(pool))
    order = np.lexsort((ties, _shuffled(pool.speakers, salt), rank * num_classes // max(1, len(pool))))
    step, turn = np.arange(len(pool)) % num_steps, np.arange(len(pool)) // num_steps
    group = step * per_step + turn % per_step
    by_group = np.argsort(group, kind="stable")
    ends = np.cumsum(np.bincount(group, minlength=num_groups))[:-1]
    return _in_steps(np.split(order[by_group], ends), num_steps)


def by_speaker(pool: Pool, num_steps: int, per_step: int, cost: CostModel, salt: int) -> Steps:
    """Equal numbers, a speaker's utterances together: in a micro-batch, and on into the same step.

    The worst case: the gradient of a step is that of few speakers. Speakers, their utterances, and the
    steps stand in keyed orders. A pool is a random sample of the corpus, so the larger
    ``pool_steps``, the more of a speaker meets. Utterances without a speaker stand alone, anywhere.
    """
    order = np.lexsort((mix(salt, pool.keys), _shuffled(pool.speakers, salt, pool.keys)))
    steps = _in_steps(np.array_split(order, num_steps * per_step), num_steps)
    shuffled = np.argsort(mix(key("order of steps", salt), np.arange(num_steps, dtype=np.uint64)))
    return [steps[number] for number in shuffled]


PARTITIONS: dict[PartitionName, Partition] = {
    "by_cost": by_cost,
    "random": random,
    "stratified": stratified,
    "by_speaker": by_speaker,
}


def _in_steps(parts: list[I64], num_steps: int) -> Steps:
    per_step = len(parts) // num_steps
    return [parts[step * per_step : (step + 1) * per_step] for step in range(num_steps)]


def _shuffled(speakers: I64, salt: int, unknown: U64 | None = None) -> U64:
    """A number for each speaker, in a keyed order; that of ``unknown`` for utterances that have none."""
    numbers = mix(key("order of speakers", salt), speakers.astype(np.uint64))
    return numbers if unknown is None else np.where(speakers < 0, mix(salt, unknown), numbers)
