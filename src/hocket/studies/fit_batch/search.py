"""Finding the largest micro-batch: predict, try in the worst order, and close in on the border."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hocket.batching import BatchPlan
from hocket.batching.settings import BatchSettings, CostSettings
from hocket.core import clock, files
from hocket.core import recipe as recipes
from hocket.core.errors import UsageError
from hocket.core.work import MicroBatchSpec
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.mixture import CorpusMixture, common_tokens
from hocket.hardware.device import choose_device
from hocket.model import workload
from hocket.studies.fit_batch import bench
from hocket.studies.fit_batch.apart import Apart
from hocket.studies.fit_batch.bench import Shape
from hocket.studies.fit_batch.needs import Needs, lengths, measure, warming, worst
from hocket.sync import SyncBase
from hocket.training.launch import worker_environment
from hocket.training.parts import make_plan
from hocket.training.recipe import TrainRecipe

_CLOSE = 1.06
"""What does not fit is at most so many times what does, where the settings allow sizes in between."""
_LARGER = 1.15
"""From the first size that fits to the next one to try."""
_MOST_TRIALS = 12


@dataclass(frozen=True)
class Trial:
    """A size of micro-batches that was tried."""

    batch_seconds: float
    micro_batches_per_step: int
    predicted_mb: float
    """Of the largest micro-batch, what the worker holds beside it included."""
    num_utterances: int
    """Of the one among those tried that has most."""
    fits: bool

    @property
    def size(self) -> float:
        """Seconds of audio of a micro-batch, in the mean."""
        return self.batch_seconds / self.micro_batches_per_step


@dataclass(frozen=True)
class FitReport:
    """What fits."""

    limit_mb: int
    held_mb: float
    """What a worker holds before it computes."""
    needs: Needs
    measured: list[tuple[Shape, float]]
    """Shapes, and the MiB that each took."""
    given_seconds: float
    """``batch.seconds`` of the recipe."""
    batch_seconds: float
    micro_batches_per_step: int
    micro_batch_seconds: float
    """Audio of a micro-batch in the mean."""
    largest: Shape
    predicted_mb: float
    trials: list[Trial]
    seconds: float
    recipe: Path | None

    @property
    def settings(self) -> list[str]:
        """As ``--set`` takes them."""
        return [
            f"batch.seconds={self.batch_seconds:.10g}",
            f"batch.micro_batches_per_step={self.micro_batches_per_step}",
            f"memory.limit_mb={self.limit_mb}",
        ]


def fit_batch(
    recipe: TrainRecipe,
    *,
    limit_mb: int | None,
    workers: int = 1,
    grow: bool = False,
    write: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> FitReport:
    """The settings of a recipe with the largest micro-batches that a worker can compute in ``limit_mb``.

    Keeps ``batch.seconds``, and with it what is learnt in a step, and finds the least
    ``micro_batches_per_step``, a multiple of ``workers``; with ``grow`` it keeps the number, and finds the
    largest ``batch.seconds``. Raises :class:`UsageError` without a limit, when nothing fits it, and for a
    recipe whose workers do not compute micro-batches alone and in step, or not on CPUs.
    """
    if recipe.layout.replica_size > 1:
        raise UsageError(
            f"layout {recipe.layout.fill(recipe.layout.least_workers)}: what is measured is a worker that "
            "holds a whole model",
            "Leave the layout out. A run under a layout begins with its largest micro-batches: where they do "
            "not fit it ends at once.",
        )
    if not isinstance(recipe.sync, SyncBase):
        raise UsageError(
            f"sync.name {recipe.sync.name}: workers that lease their work know no memory limit",
            "Give --set sync=all_reduce.",
        )
    if choose_device(recipe.device).type != "cpu":
        raise UsageError(
            f"device {recipe.device}: what is measured is the memory of the host, not that of a GPU",
            "Give --set device=cpu. A run on GPUs begins with its largest micro-batches: where they do not "
            "fit it ends at once.",
        )
    limit = limit_mb or recipe.memory.limit_mb
    if limit is None:
        raise UsageError("which limit?", "Give --limit-mb: the MiB that a worker may hold.")
    began = clock.monotonic()
    say("measuring what micro-batches take")
    corpora = CorpusMixture.open(recipe.corpora, "train")
    limited = recipe.model_copy(update={"memory": recipe.memory.model_copy(update={"limit_mb": limit})})
    with Apart(worker_environment(limited)) as apart:
        needs, held, measured = measure(recipe, corpora, apart)
        if held >= limit:
            raise UsageError(
                f"a limit of {limit} MiB: a worker holds {held:.0f} before it computes",
                "Raise the limit, lower loading.cache_mb, or take a smaller model.",
            )
        search = _Search(recipe, corpora, limit, held, needs, workers, grow, apart, say)
        best = search.run()
    seconds, number = best.batch_seconds, best.micro_batches_per_step
    if write is not None:
        memory = recipe.memory.model_copy(update={"limit_mb": limit})
        found = {"batch": search.settings(seconds, number), "memory": memory}
        files.write_text(write, recipes.dump(recipe.model_copy(update=found)))
    return FitReport(
        limit_mb=limit,
        held_mb=held,
        needs=needs,
        measured=measured,
        given_seconds=recipe.batch.seconds,
        batch_seconds=seconds,
        micro_batches_per_step=number,
        micro_batch_seconds=seconds / number,
        largest=search.largest(best),
        predicted_mb=best.predicted_mb,
        trials=search.trials,
        seconds=clock.monotonic() - began,
        recipe=write,
    )


class _Search:
    def __init__(
        self,
        recipe: TrainRecipe,
        corpora: CorpusMixture,
        limit: int,
        held: float,
        needs: Needs,
        workers: int,
        grow: bool,
        apart: Apart,
        say: Callable[[str], None],
    ) -> None:
        self._recipe, self._corpora, self._limit, self._held = recipe, corpora, limit, held
        self._needs, self._workers, self._grow, self._apart, self._say = needs, workers, grow, apart, say
        self._warming = warming(recipe, corpora)
        tokens = common_tokens(recipe.corpora)
        config = recipe.model.with_tokens(tokens.vocab_size, recipe.features.num_mel_bins)
        wanted = recipe.batch.cost
        self._cost = wanted.model() if isinstance(wanted, CostSettings) else workload.cost(config)
        self._epoch = self._plan(recipe.batch).seconds_per_epoch
        self.trials: list[Trial] = []

    def settings(self, seconds: float, number: int) -> BatchSettings:
        """The recipe's batches in another size."""
        return self._recipe.batch.model_copy(update={"seconds": seconds, "micro_batches_per_step": number})

    def largest(self, trial: Trial) -> Shape:
        """The micro-batch of a size that takes most."""
        return Shape.of(self._worst(trial.batch_seconds, trial.micro_batches_per_step)[-1])

    def run(self) -> Trial:
        """The largest size that fits; sizes are tried from where the prediction is at the limit."""
        fits: Trial | None = None
        fails: Trial | None = None
        at: tuple[float, int] | None = self._at(self._predicted_size())
        while at is not None and len(self.trials) < _MOST_TRIALS:
            trial = self._try(*at)
            if trial.fits:
                fits = trial
            else:
                fails = trial
                if trial.num_utterances == 1:
                    break  # there is no smaller one
            if fits is not None and fails is not None:
                at = self._between(fits, fails)
            elif fits is not None:
                at = self._larger(fits)
            else:
                at = self._at(trial.size / 1.2 ** len(self.trials))  # each time by more
        if fits is None:
            raise UsageError(
                f"nothing fits {self._limit} MiB: micro-batches of {self.trials[-1].size:.3g} s, of "
                f"{self.trials[-1].num_utterances} utterances at most, do not",
                "Raise the limit, or take a smaller model.",
            )
        return fits

    def _between(self, fits: Trial, fails: Trial) -> tuple[float, int] | None:
        """A size in the middle of two; None when they are next to each other."""
        if self._grow:
            at = self._at(math.sqrt(fits.size * fails.size))
            return at if fails.size / fits.size > _CLOSE and at[0] > fits.batch_seconds else None
        counts = range(
            fails.micro_batches_per_step + self._workers, fits.micro_batches_per_step, self._workers
        )
        return (fits.batch_seconds, counts[len(counts) // 2]) if counts else None

    def _larger(self, fits: Trial) -> tuple[float, int] | None:
        """The next size to try where none has failed, each time by more; None when there is none."""
        size = fits.size * _LARGER ** len(self.trials)
        if self._grow:
            steps = round(self._epoch / fits.batch_seconds)
            return self._at(max(size, fits.size * steps / (steps - 1))) if steps > 1 else None
        number = fits.micro_batches_per_step - self._workers
        return (fits.batch_seconds, min(number, self._at(size)[1])) if number > 0 else None

    def _at(self, size: float) -> tuple[float, int]:
        """(batch.seconds, micro_batches_per_step) with micro-batches of about ``size`` seconds, not more.

        An epoch has a whole number of steps, so that others than these seconds come to one of them.
        """
        batch = self._recipe.batch
        if self._grow:
            number = -(-batch.micro_batches_per_step // self._workers) * self._workers
            return round(self._epoch / math.ceil(self._epoch / (size * number) - 1e-3), 2), number
        number = math.ceil(batch.seconds / size / self._workers - 1e-9) * self._workers
        return batch.seconds, max(self._workers, number)

    def _predicted_size(self) -> float:
        """Seconds of micro-batches whose largest is predicted to fill the limit; at least an utterance's."""
        low = float(lengths(self._corpora)[0].mean()) * HOP / SAMPLE_RATE
        high = 4 * low
        while self._predict(*self._at(high)) < self._limit and high < self._recipe.batch.seconds * 64:
            low, high = high, 2 * high
        for _ in range(12):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self._predict(*self._at(middle)) > self._limit else (middle, high)
        return low

    def _predict(self, seconds: float, number: int) -> float:
        return self._held + max(self._needs(Shape.of(spec)) for spec in self._worst(seconds, number))

    def _worst(self, seconds: float, number: int) -> list[MicroBatchSpec]:
        """The micro-batches of a size that take most, the largest last."""
        plan = self._plan(self.settings(seconds, number))
        return worst(self._recipe, self._corpora, plan, self._needs)

    def _plan(self, batch: BatchSettings) -> BatchPlan:
        return make_plan(self._recipe.model_copy(update={"batch": batch}), self._corpora, self._cost)

    def _try(self, seconds: float, number: int) -> Trial:
        specs = self._worst(seconds, number)
        predicted = self._held + self._needs(Shape.of(specs[-1]))
        recipe = self._recipe.model_copy(update={"batch": self.settings(seconds, number)})
        fits = self._apart.call(bench.survives, recipe, self._warming, specs, self._limit) is True
        self.trials.append(Trial(seconds, number, predicted, max(s.num_utterances for s in specs), fits))
        told = "fits" if fits else "does not fit"
        trial = self.trials[-1]
        self._say(f"micro-batches of {trial.size:.3g} s: {predicted:.0f} MiB predicted: {told}")
        return trial
