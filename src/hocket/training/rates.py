"""The learning rate of every step of a run, once batches and their number are known.

Rules for another batch size: ``linear`` (Goyal et al., arXiv:1706.02677), ``sqrt`` (Krizhevsky,
arXiv:1404.5997; for Adam Malladi et al., arXiv:2205.10287), ``none``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from hocket.batching import BatchPlan
from hocket.training.optimiser import learning_rate
from hocket.training.recipe import LrRule, OptimiserSettings, TrainRecipe

_POWERS: dict[LrRule, float] = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}


def rule_factor(rule: LrRule, batch: float, reference: float) -> float:
    """What a rule multiplies the learning rate by when ``batch`` takes the place of ``reference``."""
    return float((batch / reference) ** _POWERS[rule])


@dataclass(frozen=True)
class Rates:
    """A pure function of the step; the same in every process of a run."""

    settings: OptimiserSettings
    """Those of the recipe, with ``warmup_steps`` as it came out."""
    num_steps: int
    batch_seconds: float
    plan: BatchPlan

    @staticmethod
    def of(recipe: TrainRecipe, plan: BatchPlan) -> Rates:
        """Of a recipe under its plan of batches."""
        settings = recipe.optimiser
        if settings.warmup_utterances is not None:
            steps = math.ceil(settings.warmup_utterances / plan.utterances_per_step)
            settings = settings.model_copy(update={"warmup_steps": steps})
        return Rates(settings, recipe.num_steps(plan), recipe.batch.seconds, plan)

    def at(self, step: int) -> float:
        """Learning rate of optimiser step ``step`` (from 0)."""
        return self._factor(step) * learning_rate(self.settings, step, self.num_steps)

    def record(self) -> dict[str, Any]:
        """What a run says of itself: the rule, and what came of it at the first step's batch size."""
        return {
            "lr_rule": self.settings.lr_rule,
            "reference_seconds": self.settings.reference_seconds,
            "batch_seconds": self.batch_seconds,
            "largest_lr": self._factor(0) * self.settings.lr,
            "warmup_steps": min(self.settings.warmup_steps, self.num_steps),
        }

    def _factor(self, step: int) -> float:
        reference = self.settings.reference_seconds
        if reference is None:  # the rule is none
            return 1.0
        return rule_factor(self.settings.lr_rule, self.batch_seconds * self.plan.times(step), reference)
