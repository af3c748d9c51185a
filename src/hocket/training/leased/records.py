"""What workers did, counted and written down step by step in the order of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hocket.batching import BatchPlan
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.leased.ledger import Fairness, Ledger
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe
from hocket.training.recording import count_step, mind_skipped


class Records:
    """The progress of the run, and the events of its steps. ``names`` are those of the corpora."""

    def __init__(
        self,
        recipe: TrainRecipe,
        folder: RunFolder,
        plan: BatchPlan,
        names: Sequence[str],
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._recipe, self._folder, self._plan, self._names = recipe, folder, plan, names
        self._journal, self.progress = journal, progress
        self.rates = Rates.of(recipe, plan)
        self.num_steps = self.rates.num_steps
        self.fairness = Fairness()

    def begin(self, num_parts: int, num_workers: int, announces: bool) -> None:
        """Nothing of the step that comes next is known."""
        self._ledger = Ledger(num_parts, num_workers, announces, self.fairness)

    def part(self, rank: int, facts: dict[str, Any]) -> None:
        """A worker has done a part of a step."""
        if facts["dropped"]:
            self._folder.list_dropped(facts["step"], facts["dropped"])
        self._ledger.part(rank, facts)

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """The update of a whole step was made, or skipped."""
        self._ledger.updated(step, norm, skipped)

    def settle(self) -> None:
        """Count and write down the steps that are complete.

        Raises :class:`RunError` when too many in a row were skipped.
        """
        while (found := self._ledger.take(self.progress.step)) is not None:
            batch = self._plan.global_batch(self.progress.step)
            report = self._ledger.report(found)
            facts = count_step(self.progress, self._plan, self._names, batch, report)
            seconds = self._ledger.seconds(found)
            self.progress.spend(seconds, 1.0, 0.0, 0.0)
            self._journal.write(
                "step",
                **facts,
                lr=self.rates.at(batch.step),
                seconds={kind: round(value, 6) for kind, value in seconds.items()},
                **self._ledger.details(found),
            )
            mind_skipped(self.progress, self._recipe.numerics, batch.step)
