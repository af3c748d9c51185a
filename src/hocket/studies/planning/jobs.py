"""A recipe as a job for the planner: its model, and a sample of the batches that it really trains on."""

from __future__ import annotations

from functools import cache

from hocket.batching import BatchPlan
from hocket.batching.settings import CostSettings
from hocket.core import clock
from hocket.core.work import MicroBatchSpec
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.model import workload
from hocket.model.config import ModelConfig
from hocket.planning.candidate import Job, PlannedMicroBatch
from hocket.planning.demand import Shape
from hocket.planning.enumerate import Asked
from hocket.planning.search import JobOf
from hocket.training.parts import make_loader, make_plan
from hocket.training.preflight import worst_micro_batches
from hocket.training.recipe import TrainRecipe

_SAMPLE = 16
"""Steps that are looked at: the first of the first pool, which come in no order of cost."""

_SECONDS_PER_FRAME = HOP / SAMPLE_RATE
_LOADED = 3
"""Micro-batches that are read to see how long reading takes."""


class RecipeJobs:
    """Jobs of one recipe, cut into any number of micro-batches a step."""

    def __init__(self, recipe: TrainRecipe) -> None:
        """``recipe`` is resolved: its corpora are found."""
        self.recipe = recipe
        self._corpora = CorpusMixture.open(recipe.corpora, "train")
        self._tokens = common_tokens(recipe.corpora)
        self.config: ModelConfig = recipe.model.with_tokens(
            self._tokens.vocab_size, recipe.features.num_mel_bins
        )
        self.job_of: JobOf = cache(self._job)

    @property
    def asked(self) -> Asked:
        """What the recipe says of what the planner may choose."""
        recipe = self.recipe
        return Asked(recipe.precision, recipe.sync, recipe.batch.micro_batches_per_step)

    def loading_seconds(self) -> float:
        """Seconds that one thread takes to load a second of audio, as the recipe varies it: measured now."""
        plan = self._plan(self.recipe.batch.micro_batches_per_step)
        loader = make_loader(self.recipe, self._corpora, self._tokens, self.config, plan)
        specs = plan.global_batch(0).micro_batches[: _LOADED + 1]
        try:
            loader.load(specs[0], 0, 0)  # opens files and makes tables
            start = clock.busy()
            for spec in specs[1:]:
                loader.load(spec, 0, 0)
            taken = clock.busy() - start
        finally:
            loader.close()
        return taken / max(1e-9, sum(_audio(spec) for spec in specs[1:]))

    def _job(self, micro_batches_per_step: int) -> Job:
        plan = self._plan(micro_batches_per_step)
        steps = [plan.global_batch(step).micro_batches for step in range(min(_SAMPLE, plan.steps_per_pool))]
        views = self.config.num_views
        return Job(
            config=self.config,
            steps=[[_planned(spec, views) for spec in step if spec.num_utterances] for step in steps],
            steps_per_epoch=plan.steps_per_epoch,
            num_steps=self.recipe.num_steps(plan),
            keeps_average=self.recipe.ema.decay > 0,
            exact=self.recipe.numerics.exact,
            largest=[_planned(spec, views) for spec in worst_micro_batches(plan)],
        )

    def _plan(self, micro_batches_per_step: int) -> BatchPlan:
        batch = self.recipe.batch.model_copy(update={"micro_batches_per_step": micro_batches_per_step})
        cost = batch.cost.model() if isinstance(batch.cost, CostSettings) else workload.cost(self.config)
        return make_plan(self.recipe.model_copy(update={"batch": batch}), self._corpora, cost)


def _planned(spec: MicroBatchSpec, num_views: int) -> PlannedMicroBatch:
    shape = Shape(spec.num_utterances * num_views, spec.num_frames, spec.num_tokens)
    return PlannedMicroBatch(shape, spec.cost, _audio(spec))


def _audio(spec: MicroBatchSpec) -> float:
    """Seconds of speech that are learnt from, without padding."""
    return spec.total_frames * _SECONDS_PER_FRAME
