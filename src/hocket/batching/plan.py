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
from typing import Any

import numpy as np

from hocket.batching import probe
from hocket.batching.mixture import Mixture, Part
from hocket.batching.order import Utterances
from hocket.batching.partition import PARTITIONS, Pool, Steps
from hocket.batching.phases import F64, Phases
from hocket.batching.settings import BatchSettings
from hocket.core.cost import CostModel
from hocket.core.errors import CorpusError
from hocket.core.seeds import key
from hocket.core.work import I64, GlobalBatch, MicroBatchSpec
from hocket.corpus.audio import perturbed_samples
from hocket.corpus.augment import draw_speed
from hocket.corpus.features import HOP

_POOLS_KEPT = 2
_RULES = 2
"""Raised when the same settings come to cut other micro-batches: part of the fingerprint."""


class BatchPlan:
    """What every step of every epoch trains on. ``cost`` is a setting here, never a measurement."""

    def __init__(
        self,
        utterances: Utterances | Sequence[Part],
        settings: BatchSettings,
        cost: CostModel,
        *,
        seed: int,
        speed_percents: Sequence[int] = (100,),
    ) -> None:
        self._settings, self._cost, self.seed = settings, cost, seed
        self._percents = tuple(speed_percents)
        parts = utterances if isinstance(utterances, Sequence) else [Part(utterances)]
        if not all(len(part.utterances.key) for part in parts):
            raise CorpusError(
                "the training part of the corpus is empty", "See left_out.jsonl in the corpus folder."
            )
        self._mixture = Mixture(parts, seed)
        if settings.partition == "by_speaker" and not self._mixture.has_speakers:
            raise CorpusError(
                "batch.partition: by_speaker, but the corpus names no speakers",
                "Choose another partition, or prepare the corpus from a source that has them.",
            )
        # The speed factor changes how much audio there is: its mean effect belongs to the size of a step.
        slower = float(np.mean([100.0 / percent for percent in self._percents]))
        self.seconds_per_epoch = self._mixture.seconds * slower
        """Audio of an epoch, in the mean over draws of speed."""
        wanted = max(1, round(self.seconds_per_epoch / settings.seconds))
        self.num_pools = max(1, wanted // settings.pool_steps)
        self.steps_per_pool = round(wanted / self.num_pools)
        self._phases = Phases(self.num_pools, self.steps_per_pool, settings.growth)
        self._pools: OrderedDict[tuple[int, int], list[list[MicroBatchSpec]]] = OrderedDict()

    @property
    def parts(self) -> tuple[Part, ...]:
        """The corpora."""
        return self._mixture.parts

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch, before ``batch.growth`` makes them fewer."""
        return self.num_pools * self.steps_per_pool

    @property
    def utterances_per_step(self) -> float:
        """Utterances of a step in the mean, before ``batch.growth`` makes them more."""
        return (
            sum(part.weight * len(part.utterances.key) for part in self._mixture.parts) / self.steps_per_epoch
        )

    def steps_of(self, epochs: float) -> int:
        """Optimiser steps of the run's first ``epochs`` epochs, at least one."""
        return self._phases.steps_of(epochs)

    def times(self, step: int) -> int:
        """How many times as large the run's optimiser step ``step`` is as the first."""
        return self._phases.at(step).times

    def position(self, step: int) -> tuple[int, int]:
        """(epoch, step in the epoch) of the run's optimiser step ``step``, both from 0."""
        epoch = self._phases.place(step)[0] // self.num_pools
        return epoch, step - self._phases.first_step(epoch * self.num_pools)

    def pool_of(self, step: int) -> int:
        """The pool, counted through all epochs, that the run's optimiser step ``step`` is cut from."""
        return self._phases.place(step)[0]

    def first_steps(self, pools: F64) -> F64:
        """The first step of each of ``pools``, counted through all epochs."""
        return self._phases.first_steps(pools)

    def is_probe(self, step: int) -> bool:
        """True when step ``step`` of the run is cut at random: see :mod:`hocket.batching.probe`."""
        every = self._settings.probe_every
        return every > 0 and (step + 1) % every == 0

    def global_batch(self, step: int) -> GlobalBatch:
        """The micro-batches of the run's optimiser step ``step``, the same for every caller."""
        number, place = self._phases.place(step)
        epoch, pool = divmod(number, self.num_pools)
        return GlobalBatch(epoch, step, tuple(self._pool(epoch, pool)[place]), self.is_probe(step))

    def digest(self, batch: GlobalBatch) -> int:
        """:func:`~hocket.core.protocols.utterance_digest` of all utterances of ``batch``."""
        rows = np.concatenate([spec.rows for spec in batch.micro_batches])
        keys = [part.keys(own) for part, own, _ in self._mixture.split(rows)]
        return int((np.concatenate(keys) & np.uint64(0xFFFFFFFF)).sum())

    def frames_by_corpus(self, batch: GlobalBatch) -> list[int]:
        """Feature frames of a step from each corpus, without padding, in the order of the corpora."""
        rows = np.concatenate([spec.rows for spec in batch.micro_batches])
        speed = np.concatenate([spec.speed_percent for spec in batch.micro_batches])
        return [
            int(self._frames(np.asarray(part.utterances.num_samples)[own], speed[these]).sum())
            for part, own, these in self._mixture.split(rows)
        ]

    def fingerprint(self, corpus: str) -> str:
        """What decides the sequence of batches, as one hash: a run resumes only under the same one."""
        decides: dict[str, Any] = {
            "rules": _RULES,
            "corpus": corpus,
            "seed": self.seed,
            "settings": self._settings.model_dump(mode="json", exclude={"cost"}),
            "cost": self._cost.as_dict(),
            "speed_percents": self._percents,
        }
        if [(part.weight, part.salt) for part in self._mixture.parts] != [(1.0, None)]:
            decides["mixture"] = [(part.weight, part.salt) for part in self._mixture.parts]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()

    def _pool(self, epoch: int, pool: int) -> list[list[MicroBatchSpec]]:
        if (epoch, pool) not in self._pools:
            self._pools[epoch, pool] = self._cut(epoch, pool)
            while len(self._pools) > _POOLS_KEPT:
                self._pools.popitem(last=False)
        return self._pools[epoch, pool]

    def _cut(self, epoch: int, pool: int) -> list[list[MicroBatchSpec]]:
        draw = self._mixture.pool(epoch, pool, self.num_pools)
        speed = np.empty(len(draw.rows), np.int64)
        for number in np.unique(draw.passes).tolist():
            these = draw.passes == number
            speed[these] = draw_speed(self.seed, number, draw.keys[these], self._percents)
        frames, tokens = self._frames(draw.num_samples, speed), draw.num_tokens
        multiple = self._settings.frame_multiple
        cut = Pool(-(-frames // multiple) * multiple, tokens, draw.keys, draw.speakers)
        steps = self._in_steps(cut, epoch * self.num_pools + pool, key("cut", self.seed, epoch, pool))
        return [
            [
                MicroBatchSpec(
                    index=index,
                    rows=draw.rows[part],
                    speed_percent=speed[part],
                    passes=draw.passes[part],
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

    def _in_steps(self, cut: Pool, number: int, salt: int) -> Steps:
        """Pool ``number`` of the run in its steps: those that are probes are drawn first."""
        phase, first = self._phases.of_pool(number), self._phases.first_step(number)
        num_steps, per_step = phase.steps_per_pool, phase.times * self._settings.micro_batches_per_step
        partition = PARTITIONS[self._settings.partition]
        probes = [place for place in range(num_steps) if self.is_probe(first + place)]
        if not probes:
            return partition(cut, num_steps, per_step, self._cost, salt)
        drawn, rest = probe.draw(cut, len(probes), num_steps, salt)
        others: Steps = []
        if len(probes) < num_steps:
            dealt = partition(cut.part(rest), num_steps - len(probes), per_step, self._cost, salt)
            others = [[rest[part] for part in step] for step in dealt]
        padded = [len(part) * int(cut.num_frames[part].max(initial=0)) for step in others for part in step]
        for place, positions in zip(probes, drawn, strict=True):
            largest = max(padded, default=float("inf"))
            others.insert(place, probe.split(cut, positions, per_step, largest, self._cost))
        return others

    def _frames(self, num_samples: I64, speed: I64) -> I64:
        """Feature frames of utterances at their speeds."""
        frames = np.empty(len(speed), np.int64)
        for percent in self._percents:
            drawn = speed == percent
            frames[drawn] = perturbed_samples(num_samples[drawn], percent) // HOP
        return frames
