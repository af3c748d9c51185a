"""A worker as training has it, in a process of its own, computing micro-batches within a limit."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import numpy as np
import torch

from hocket.comms.communicator import Alone
from hocket.core.errors import RunError
from hocket.core.layout import Layout
from hocket.core.protocols import OutOfMemory, RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.loading import Loader
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.corpus.storage import Storage
from hocket.hardware.device import choose_device, fix_arithmetic
from hocket.hardware.memory import MemoryLimit, give_back_memory, keep_freed_memory
from hocket.parallel import apply
from hocket.sync import SyncBase, SyncContext, make_strategy
from hocket.training.assembly import make_model
from hocket.training.averaging import make_average
from hocket.training.optimiser import make_optimiser, set_learning_rate
from hocket.training.recipe import TrainRecipe

T = TypeVar("T")
_BYTES = 4
_FRAMES_PER_SECOND = 100
_NO_LIMIT = 1 << 30
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
        self.loader = Loader(
            corpora,
            tokens,
            recipe.features,
            recipe.augment,
            recipe.seed,
            recipe.loading,
            num_views=config.num_views,
            storage=Storage.open(corpora.stored, recipe.loading.storage),  # reads nothing ahead
        )
        optimiser = make_optimiser(self.replica.held, recipe.optimiser)
        set_learning_rate(optimiser, 0.0)
        self._average = make_average(self.replica.held, recipe.ema)
        sync = make_strategy(recipe.sync, SyncContext(Alone(), 1.0, 1), exact=recipe.numerics.exact)
        sync.attach(self.replica)
        sync.begin_step(GlobalBatch(0, 0, ()), settle=True)
        sync.step(optimiser, RankPart(()))
        self._ahead = np.empty(reserve_mb(recipe, corpora, model) << 20, np.uint8)
        self._held = (sync, optimiser)
        give_back_memory(self.device)
        self.held = MemoryLimit(_NO_LIMIT).held_mb()
        """MiB that the worker holds before it computes."""

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
        return True

    def need(self, spec: MicroBatchSpec) -> float:
        """MiB that a limit must leave a micro-batch, in a process that computed nothing before."""
        limit = MemoryLimit(_NO_LIMIT)
        batch = self.load(spec)
        before = limit.held_mb()
        with limit.watching():
            self.replica.forward_backward([batch])
        return max(limit.reach_mb, limit.peak_mb) - before


def reserve_mb(recipe: TrainRecipe, corpora: CorpusMixture, model: torch.nn.Module) -> int:
    """MiB for features that are cached and read ahead, and for the copy that a checkpoint is written from."""
    seconds = sum(float(member.index.num_samples.sum(dtype=np.int64)) for member in corpora.members)
    per_second = _FRAMES_PER_SECOND * recipe.features.num_mel_bins * _BYTES
    features = seconds / SAMPLE_RATE * per_second * len(recipe.augment.speed_percents) / 2**20
    ahead = (recipe.loading.prefetch_steps + 2) * recipe.batch.seconds * 1.3 * per_second / 2**20
    copies = 3 + (recipe.ema.decay > 0)  # weights, two moments, average
    checkpoint = copies * _BYTES * sum(p.numel() for p in model.parameters()) / 2**20
    return math.ceil(min(features, recipe.loading.cache_mb) + ahead + checkpoint + _OTHERS_MB)


def in_child(work: Callable[..., T], *arguments: Any) -> T | None:
    """``work(*arguments)`` in a forked process, whose memory is then gone; None when it was ended.

    An error that is raised there is raised here as :class:`RunError`.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, work, arguments))
    process.start()
    there.close()
    try:
        error, value = here.recv()
    except EOFError:
        return None
    finally:
        process.join()
        here.close()
    if error is not None:
        raise RunError(error)
    answer: T = value
    return answer


def _child(line: Connection, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        line.send((None, work(*arguments)))
    except Exception as error:
        line.send((f"{type(error).__name__}: {error}", None))
