"""The plan of batches: from (epoch, step) to micro-batches, a pure function of index and settings.

Positions of an epoch are divided into pools of equal size; each pool is cut alone into
``pool_steps * micro_batches_per_step`` micro-batches. So a step's pool and its place there follow
by arithmetic, nothing carries over from step to step, and resuming costs as much as any step.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from hocket.batching.order import EpochOrder, Utterances, block_starts
from hocket.batching.partition import PARTITIONS, Pool
from hocket.batching.settings import BatchSettings
from hocket.core.cost import CostModel
from hocket.core.errors import CorpusError
from hocket.core.seeds import key
from hocket.core.work import GlobalBatch, MicroBatchSpec
from hocket.corpus.audio import SAMPLE_RATE, perturbed_samples
from hocket.corpus.augment import draw_speed
from hocket.corpus.features import HOP

_POOLS_KEPT = 2
_RULES = 2
"""Raised when the same settings come to cut other micro-batches: part of the fingerprint."""


class BatchPlan:
    """What every step of every epoch trains on. ``cost`` is a setting here, never a measurement."""

    def __init__(
        self,
        utterances: Utterances,
        settings: BatchSettings,
        cost: CostModel,
        *,
        seed: int,
        speed_percents: Sequence[int] = (100,),
    ) -> None:
        self._utterances, self._settings, self._cost, self._seed = utterances, settings, cost, seed
        self._percents = tuple(speed_percents)
        self._count = len(utterances.num_samples)
        if self._count == 0:
            raise CorpusError(
                "the training part of the corpus is empty", "See left_out.jsonl in the corpus folder."
            )
        if settings.partition == "by_speaker" and int(utterances.speaker.max()) < 0:
            raise CorpusError(
                "batch.partition: by_speaker, but the corpus names no speakers",
                "Choose another partition, or prepare the corpus from a source that has them.",
            )
        self._block_starts = block_starts(utterances.block)
        seconds = float(utterances.num_samples.sum(dtype=np.int64)) / SAMPLE_RATE
        # The speed factor changes how much audio there is: its mean effect belongs to the size of a step.
        seconds *= float(np.mean([100.0 / percent for percent in self._percents]))
        wanted = max(1, round(seconds / settings.seconds))
        self.num_pools = max(1, wanted // settings.pool_steps)
        self.steps_per_pool = round(wanted / self.num_pools)
        self._orders: OrderedDict[int, EpochOrder] = OrderedDict()
        self._pools: OrderedDict[tuple[int, int], list[list[MicroBatchSpec]]] = OrderedDict()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of every epoch."""
        return self.num_pools * self.steps_per_pool

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, step in the epoch) of the run's optimiser step ``step``, both from 0."""
        return divmod(step, self.steps_per_epoch)

    def global_batch(self, step: int) -> GlobalBatch:
        """The micro-batches of the run's optimiser step ``step``, the same for every caller."""
        epoch, within = self.position(step)
        pool, place = divmod(within, self.steps_per_pool)
        return GlobalBatch(epoch, step, tuple(self._pool(epoch, pool)[place]))

    def digest(self, batch: GlobalBatch) -> int:
        """:func:`~hocket.core.protocols.utterance_digest` of all utterances of ``batch``."""
        rows = np.concatenate([spec.rows for spec in batch.micro_batches])
        return int((np.asarray(self._utterances.key)[rows] & np.uint64(0xFFFFFFFF)).sum())

    def fingerprint(self, corpus: str) -> str:
        """What decides the sequence of batches, as one hash: a run resumes only under the same one."""
        decides = {
            "rules": _RULES,
            "corpus": corpus,
            "seed": self._seed,
            "settings": self._settings.model_dump(mode="json", exclude={"cost"}),
            "cost": self._cost.as_dict(),
            "speed_percents": self._percents,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _pool(self, epoch: int, pool: int) -> list[list[MicroBatchSpec]]:
        if (epoch, pool) not in self._pools:
            self._pools[epoch, pool] = self._cut(epoch, pool)
            while len(self._pools) > _POOLS_KEPT:
                self._pools.popitem(last=False)
        return self._pools[epoch, pool]

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            self._orders[epoch] = EpochOrder(self._block_starts, self._utterances.key, self._seed, epoch)
            while len(self._orders) > _POOLS_KEPT:
                self._orders.popitem(last=False)
        return self._orders[epoch]

    def _cut(self, epoch: int, pool: int) -> list[list[MicroBatchSpec]]:
        first = self._count * pool // self.num_pools
        last = self._count * (pool + 1) // self.num_pools
        rows = self._order(epoch).rows(first, last)
        keys = np.asarray(self._utterances.key)[rows]
        speed = draw_speed(self._seed, epoch, keys, self._percents)
        num_samples = np.asarray(self._utterances.num_samples)[rows]
        frames = np.empty(len(rows), np.int64)
        for percent in self._percents:
            drawn = speed == percent
            frames[drawn] = perturbed_samples(num_samples[drawn], percent) // HOP
        tokens = np.asarray(self._utterances.num_tokens)[rows].astype(np.int64)
        speakers = np.asarray(self._utterances.speaker)[rows].astype(np.int64)
        multiple = self._settings.frame_multiple
        cut = Pool(-(-frames // multiple) * multiple, tokens, keys, speakers)
        steps = PARTITIONS[self._settings.partition](
            cut,
            self.steps_per_pool,
            self._settings.micro_batches_per_step,
            self._cost,
            key("cut", self._seed, epoch, pool),
        )
        return [
            [
                MicroBatchSpec(
                    index=index,
                    rows=rows[part],
                    speed_percent=speed[part],
                    num_frames=int(cut.num_frames[part].max(initial=0)),
                    num_tokens=int(tokens[part].max(initial=0)),
                    total_frames=int(frames[part].sum()),
                    total_tokens=int(tokens[part].sum()),
                    cost=float(predicted),
                )
                for index, (part, predicted) in enumerate(
                    zip(parts, cut.costs(parts, self._cost), strict=True)
                )
            ]
            for parts in steps
        ]
