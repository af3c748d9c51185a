"""A worker as training has it, computing micro-batches within a limit; each in a process of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hocket.comms.communicator import Alone
from hocket.core.layout import Layout
from hocket.core.protocols import OutOfMemory, RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware.device import choose_device, fix_arithmetic
from hocket.hardware.memory import MemoryLimit, give_back_memory, keep_freed_memory
from hocket.parallel import apply
from hocket.sync import SyncBase, SyncContext, make_strategy
from hocket.training.averaging import make_average
from hocket.training.optimiser import make_optimiser, set_learning_rate
from hocket.training.parts import make_loader, make_model
from hocket.training.recipe import TrainRecipe

_BYTES = 4
_FRAMES_PER_SECOND = 100
_NO_LIMIT = 1 << 30
_SHAPES_LOOKED_AT, _NO_GROWTH = 12, 1.01
"""A worker is warm when so many more shapes have added no more than this."""
_OTHERS_MB = 24
"""What a worker holds beside all that is counted here: lines to other workers, threads, events."""


@dataclass(frozen=True)
class Shape:
    """A micro-batch as memory sees it."""

    num_utterances: int
    num_frames: int
    num_tokens: int

    @staticmethod
    def of(spec: MicroBatchSpec) -> Shape:
        """Of a planned micro-batch."""
        return Shape(spec.num_utterances, spec.num_frames, spec.num_tokens)


class Bench:
    """Everything that a worker holds while it trains: weights, gradients, optimiser, average, features."""

    def __init__(self, recipe: TrainRecipe) -> None:
        fix_arithmetic(recipe.threads)
        keep_freed_memory()
        self.device = choose_device(recipe.device)
        tokens = common_tokens(recipe.corpora)
        corpora = CorpusMixture.open(recipe.corpora, "train")
        model, config, _, _ = make_model(recipe, tokens, fresh=False)
        assert isinstance(recipe.sync, SyncBase)
        self.replica = apply(
            model,
            Layout(recompute=recipe.layout.recompute),
            self.device,
            precision=recipe.precision,
            bucket_mb=recipe.sync.bucket_mb,
        )
        self.loader = make_loader(recipe, corpora, tokens, config, plan=None)
        optimiser = make_optimiser(self.replica.held, recipe.optimiser)
        set_learning_rate(optimiser, 0.0)
        self._average = make_average(self.replica.held, recipe.ema)
        sync = make_strategy(recipe.sync, SyncContext(Alone(), 1.0, 1), exact=recipe.numerics.exact)
        sync.attach(self.replica)
        sync.begin_step(GlobalBatch(0, 0, ()), settle=True)
        sync.step(optimiser, RankPart(()))
        self._ahead = np.full(reserve_mb(recipe, corpora, model) << 20, 1, np.uint8)  # pages that are there
        self._held = (sync, optimiser)
        self.held = 0.0
        """MiB that the worker holds beside a micro-batch, once it is warm."""

    def warm(self, specs: Sequence[MicroBatchSpec]) -> None:
        """Compute small micro-batches of many shapes, until libraries keep no more for another one.

        oneDNN keeps kernels for each shape, some megabytes for a shape, until its cache is full.
        """
        limit = MemoryLimit(_NO_LIMIT)
        before = limit.held_mb()
        for number, spec in enumerate(specs, 1):
            self.replica.forward_backward([self.load(spec)])
            if number % _SHAPES_LOOKED_AT == 0:
                now = limit.held_mb()
                if now < _NO_GROWTH * before:
                    break
                before = now
        give_back_memory(self.device)
        self.held = limit.held_mb()

    def load(self, spec: MicroBatchSpec) -> MicroBatch:
        """The tensors of a micro-batch."""
        return self.loader.load(spec, 0, 0)

    def fits(self, batches: Sequence[MicroBatch], limit_mb: int) -> bool:
        """Compute them one after another; False at the first that the limit has no room for."""
        limit = MemoryLimit(limit_mb)
        self.replica.fit_memory(batches)
        try:
            for batch in batches:
                with limit.watching():
                    self.replica.forward_backward([batch])
        except OutOfMemory:
            return False
        return limit.peak_mb <= limit_mb

    def need(self, spec: MicroBatchSpec) -> float:
        """MiB that a limit must leave a micro-batch beside :attr:`held`."""
        limit = MemoryLimit(_NO_LIMIT)
        batch = self.load(spec)
        give_back_memory(self.device)
        with limit.watching():
            self.replica.forward_backward([batch])
        return max(limit.reach_mb, limit.peak_mb) - self.held


def reserve_mb(recipe: TrainRecipe, corpora: CorpusMixture, model: torch.nn.Module) -> int:
    """MiB for features that are cached and read ahead, and for the copy that a checkpoint is written from."""
    seconds = sum(float(member.index.num_samples.sum(dtype=np.int64)) for member in corpora.members)
    per_second = _FRAMES_PER_SECOND * recipe.features.num_mel_bins * _BYTES
    features = seconds / SAMPLE_RATE * per_second * len(recipe.augment.speed_percents) / 2**20
    ahead = (recipe.loading.prefetch_steps + 2) * recipe.batch.seconds * 1.3 * per_second / 2**20
    copies = 3 + (recipe.ema.decay > 0)  # weights, two moments, average
    checkpoint = copies * _BYTES * sum(p.numel() for p in model.parameters()) / 2**20
    return math.ceil(min(features, recipe.loading.cache_mb) + ahead + checkpoint + _OTHERS_MB)


def measure(
    recipe: TrainRecipe, warming: Sequence[MicroBatchSpec], specs: Sequence[MicroBatchSpec]
) -> tuple[float, list[float]]:
    """(MiB that a warm worker holds, MiB that it needs for each micro-batch), in a new process."""
    bench = Bench(recipe)
    bench.warm(warming)
    return bench.held, [bench.need(spec) for spec in specs]


def survives(
    recipe: TrainRecipe,
    warming: Sequence[MicroBatchSpec],
    specs: Sequence[MicroBatchSpec],
    limit_mb: int,
) -> bool:
    """Whether a worker computes all of these within a limit, in a new process.

    Sizes that grow leave an allocator the most that it cannot use again; then all once more.
    """
    bench = Bench(recipe)
    bench.warm(warming)
    batches = [bench.load(spec) for spec in specs]
    return bench.held < limit_mb and bench.fits([*batches, *reversed(batches), *batches], limit_mb)
