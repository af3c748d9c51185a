"""Writing down what came out of a step: the run's counts, its events, and the noise scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hocket.batching import BatchPlan
from hocket.core.errors import RunError
from hocket.core.protocols import StepReport
from hocket.core.work import GlobalBatch
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.loading import Loader
from hocket.training.ceiling import Ceiling
from hocket.training.journal import Journal
from hocket.training.noise_scale import estimate
from hocket.training.probing import Looked
from hocket.training.progress import Progress
from hocket.training.rates import Rates
from hocket.training.recipe import NumericsSettings, TrainRecipe
from hocket.training.seat import Seat
from hocket.training.speeds import Speeds


@dataclass(frozen=True)
class Recorder:
    """Counts every step of a rank in its progress and speeds, and writes it into the journal."""

    recipe: TrainRecipe
    seat: Seat
    plan: BatchPlan
    corpora: tuple[str, ...]
    loader: Loader
    rates: Rates
    speeds: Speeds
    ceiling: Ceiling
    progress: Progress
    journal: Journal

    def write(
        self, batch: GlobalBatch, report: StepReport, spent: Mapping[str, float], looked: Looked | None
    ) -> None:
        """A step that is over. ``spent`` are this rank's seconds by part; ``looked`` is of a probe step.

        Raises :class:`RunError` after too many steps in a row without a finite loss and gradient.
        """
        facts = count_step(self.progress, self.plan, self.corpora, batch, report)
        busiest, mine = max(report.busy_seconds), report.busy_seconds[self.seat.place]
        wait = min(busiest - mine, report.sync_seconds)
        seconds = {
            "data": spent["data"],
            "compute": spent["compute"] + spent.get("device", 0.0),
            "communication": report.sync_seconds - wait,
            "wait": wait,
            "optimiser": spent["agreement"] - report.sync_seconds,
        }
        dealt = self.speeds.deal(batch, self.seat.layout)
        uneven = dealt.imbalance(self.speeds.at(batch.step))
        self.speeds.record(batch.step, dealt.loads, self.seat.slowest_of_replicas(report.busy_seconds))
        flops = self.ceiling.flops(batch)
        self.progress.spend(seconds, uneven, flops, self.ceiling.matrix_rate)
        self.journal.write(
            "step",
            **facts,
            lr=self.rates.at(batch.step),
            seconds={kind: round(value, 6) for kind, value in seconds.items()},
            imbalance=round(uneven, 6),
            flops=round(flops),
            bytes_per_step=report.bytes_sent,
            **({"storage": storage} if (storage := self.loader.take_storage_counts()) else {}),
        )
        if looked is not None:
            self._measure_noise(batch, report, looked)
        mind_skipped(self.progress, self.recipe.numerics, batch.step)

    def _measure_noise(self, batch: GlobalBatch, report: StepReport, looked: Looked) -> None:
        """Take what a probe step saw into the run's noise scale, and write down what it says."""
        num_units, weights, squares = looked.result()
        if report.skipped or num_units < 2:
            return
        found = estimate(num_units, weights, squares, report.grad_norm, batch.total_tokens)
        noise, settings = self.progress.noise, self.recipe.batch
        noise.add(found, batch.total_tokens, batch.total_frames, batch.num_utterances)
        times = self.plan.times(batch.step)
        told = noise.told(
            settings.seconds * times, settings.micro_batches_per_step * times, HOP / SAMPLE_RATE
        )
        self.journal.write("noise_scale", step=batch.step, epoch=batch.epoch, **asdict(found), **told)


def count_step(
    progress: Progress, plan: BatchPlan, corpora: Sequence[str], batch: GlobalBatch, report: StepReport
) -> dict[str, Any]:
    """Count a step that is over in a run's progress; what its event says under every strategy."""
    if report.num_dropped == 0 and report.utterances != plan.digest(batch):
        raise RuntimeError(f"step {batch.step} did not learn from exactly the utterances of its plan")
    progress.count(batch, report)
    facts: dict[str, Any] = {
        "step": batch.step,
        "epoch": batch.epoch,
        "loss": report.loss_sum / max(1, batch.total_tokens),
        "grad_norm": report.grad_norm,
        "num_frames": batch.total_frames,
        "num_utterances": batch.num_utterances,
        "busy": [round(value, 6) for value in report.busy_seconds],
        "padding": round(1 - batch.total_frames / max(1, batch.padded_frames), 6),
        "utterances": report.utterances,
        "skipped": report.skipped,
    }
    if len(corpora) > 1:
        facts["frames_by_corpus"] = dict(zip(corpora, plan.frames_by_corpus(batch), strict=True))
        progress.count_corpora(facts["frames_by_corpus"])
    return facts


def mind_skipped(progress: Progress, settings: NumericsSettings, step: int) -> None:
    """Raise :class:`RunError` when too many steps in a row, the last of them ``step``, were skipped."""
    if progress.skipped_in_a_row >= settings.max_skipped:
        raise RunError(
            f"{progress.skipped_in_a_row} steps in a row had a loss or gradient that is not finite, "
            f"the last at step {step}",
            "Lower optimiser.lr, or look at the corpus; numerics.max_skipped sets the patience.",
        )
