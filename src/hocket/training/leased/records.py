"""What workers did, counted and written down step by step in the order of the plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hocket.batching import BatchPlan
from hocket.core.errors import RunError
from hocket.training.folder import RunFolder
from hocket.training.journal import Journal
from hocket.training.leased.ledger import Fairness, Ledger
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import TrainRecipe


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
            if report.num_dropped == 0 and report.utterances != self._plan.digest(batch):
                raise RuntimeError(f"step {batch.step} did not learn from exactly the utterances of its plan")
            seconds = self._ledger.seconds(found)
            self.progress.count(batch, report)
            frames = self._plan.frames_by_corpus(batch)
            if len(frames) > 1:
                self.progress.count_corpora(dict(zip(self._names, frames, strict=True)))
            self.progress.spend(seconds, 1.0, 0.0, 0.0)
            self._journal.write(
                "step",
                step=batch.step,
                epoch=batch.epoch,
                loss=report.loss_sum / max(1, batch.total_tokens),
                grad_norm=report.grad_norm,
                lr=self.rates.at(batch.step),
                num_frames=batch.total_frames,
                num_utterances=batch.num_utterances,
                seconds={kind: round(value, 6) for kind, value in seconds.items()},
                busy=[round(value, 6) for value in report.busy_seconds],
                utterances=report.utterances,
                skipped=report.skipped,
                **self._ledger.details(found, batch),
            )
            if self.progress.skipped_in_a_row >= self._recipe.numerics.max_skipped:
                raise RunError(
                    f"{self.progress.skipped_in_a_row} steps in a row had a loss or gradient that is not "
                    f"finite, the last at step {batch.step}",
                    "Lower optimiser.lr, or look at the corpus; numerics.max_skipped sets the patience.",
                )
