"""From settings to cells: which runs there are, with which recipe, and how each is known again."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.comms.links import LOOPBACK
from hocket.core.errors import UsageError
from hocket.corpus.report import read_corpus
from hocket.studies.scale.settings import GridSettings, Scaling, StrategySettings, StudySettings
from hocket.sync.hogwild import HogwildSettings
from hocket.training.launch import resolve
from hocket.training.recipe import TrainRecipe

TEST_SPLITS = ("test", "dev")
_RULES = 1
"""Raised when the same settings come to measure something else: part of the fingerprint."""

ALIKE = (
    "ema.decay=0",  # strategies whose replicas part have no such average
    "numerics.exact=false",
    "validation.every_steps=0",
    "validation.patience=null",
    "validation.take=last",
    "checkpoint.every_steps=1000000000",
    "tensorboard=false",
)
"""Laid over the recipe for every strategy alike, so that all do the same work, and only that, in a step."""

BASELINE = StrategySettings.model_validate({"sync": {"name": "all_reduce"}})


@dataclass(frozen=True)
class Point:
    """One cell before it is run."""

    strategy: StrategySettings
    workers: int
    link: str
    partition: str
    scaling: Scaling
    seed: int
    score: bool
    recipe: TrainRecipe
    fingerprint: str
    """Of everything that decides what is measured: recipe, corpus, workers, link."""

    @property
    def label(self) -> str:
        """``local_sgd sync_every=8, 2 workers, 100mbit, random, seed 1``."""
        words = [self.strategy.label, f"{self.workers} worker{'s' if self.workers > 1 else ''}"]
        words += [self.link] if self.link != LOOPBACK else []
        words += [self.partition] if self.partition != "by_cost" else []
        words += ["weak"] if self.scaling == "weak" else []
        return ", ".join([*words, f"seed {self.seed}"])

    @property
    def folder(self) -> str:
        """Name of its folder: readable, and of this fingerprint alone."""
        slug = re.sub(r"[^a-z0-9_]+", "-", self.label.lower()).strip("-")
        return f"{slug[:80]}-{self.fingerprint[:10]}"

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this cell, beside what ``scale.json`` has in fields of its own."""
        given = self.strategy.sync.model_dump(mode="json", exclude_unset=True, exclude={"name"})
        changed = {"set": list(self.strategy.set)} if self.strategy.set else {}
        return {
            **given,
            **changed,
            "scaling": self.scaling,
            "steps": self.recipe.steps,
            "batch_seconds": self.recipe.batch.seconds,
        }


@dataclass(frozen=True)
class Grid:
    """All cells of a study, in the order in which they are run, and what there is to say about them."""

    points: tuple[Point, ...]
    split: str
    corpus: Path
    notes: tuple[str, ...]


def expand(recipe: Path, study: StudySettings) -> Grid:
    """The cells of a study: first one seed of all, then the next.

    Raises :class:`~hocket.core.errors.RecipeError` for what a recipe cannot be, before anything is run.
    """
    base = resolve(recipe, [*study.set, *ALIKE])
    if len(base.corpora) != 1:
        raise UsageError(f"{recipe}: a study scores one corpus, and this recipe mixes {len(base.corpora)}")
    corpus = base.corpora[0].path
    told = read_corpus(corpus)
    split = study.split or next((name for name in TEST_SPLITS if name in told["splits"]), "")
    if split not in told["splits"]:
        raise UsageError(
            f"{corpus}: no split called {split or ' or '.join(TEST_SPLITS)} to score",
            f"It has: {', '.join(told['splits'])}. Name one with --split.",
        )
    maker = _Maker(recipe, study, base, str(told["fingerprint"]))
    found: dict[str, Point] = {}

    def add(point: Point) -> None:
        before = found.get(point.fingerprint)
        if before is None or (point.score and not before.score):
            found[point.fingerprint] = point  # in its earliest place

    if study.baseline:
        add(maker.point(BASELINE, 1, LOOPBACK, base.batch.partition, "strong", maker.first_seed, False))
    for seed_place in range(max(len(grid.seeds_from(maker.first_seed)) for grid in study.grids)):
        for grid in study.grids:
            seeds = grid.seeds_from(maker.first_seed)
            if seed_place < len(seeds):
                for point in maker.of_seed(grid, seeds[seed_place]):
                    add(point)
    points = tuple(found.values())
    return Grid(points, split, corpus, tuple(maker.notes(points)))


class _Maker:
    """Makes points of one study."""

    def __init__(self, path: Path, study: StudySettings, base: TrainRecipe, corpus: str) -> None:
        self._path, self._study, self._base, self._corpus = path, study, base, corpus
        self.first_seed = base.seed

    def of_seed(self, grid: GridSettings, seed: int) -> list[Point]:
        """All cells of a grid with this seed."""
        return [
            self.point(strategy, workers, link, partition, scaling, seed, grid.score)
            for scaling in grid.scaling
            for partition in grid.partitions or (self._base.batch.partition,)
            for link in grid.links
            for workers in grid.workers
            for strategy in grid.strategies
            if not (scaling == "weak" and workers == 1 and "strong" in grid.scaling)
            and not (link != LOOPBACK and (workers == 1 or isinstance(strategy.sync, HogwildSettings)))
        ]

    def point(
        self,
        strategy: StrategySettings,
        workers: int,
        link: str,
        partition: str,
        scaling: Scaling,
        seed: int,
        score: bool,
    ) -> Point:
        recipe = resolve(self._path, [*self._study.set, *ALIKE, *strategy.set])
        batch = recipe.batch.model_copy(
            update={"partition": partition, **({"cost": "model"} if recipe.batch.cost == "measured" else {})}
        )
        steps = self._study.steps or recipe.steps or self._steps_of(recipe)
        if scaling == "weak":
            grown = {
                "seconds": batch.seconds * workers,
                "micro_batches_per_step": batch.micro_batches_per_step * workers,
            }
            batch, steps = batch.model_copy(update=grown), max(1, round(steps / workers))
        changes = {"batch": batch, "steps": steps, "epochs": None, "seed": seed, "sync": strategy.sync}
        written = {**recipe.model_dump(), **{key: _plain(value) for key, value in changes.items()}}
        settled = TrainRecipe.model_validate(written)
        decides = {
            "rules": _RULES,
            "recipe": settled.model_dump(mode="json", exclude={"corpus"}),
            "corpus": self._corpus,
            "workers": workers,
            "link": link,
        }
        fingerprint = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
        return Point(strategy, workers, link, partition, scaling, seed, score, settled, fingerprint)

    def _steps_of(self, recipe: TrainRecipe) -> int:
        raise UsageError(
            f"{self._path}: it counts epochs; a study counts steps, the same for all", "Give --steps."
        )

    def notes(self, points: Sequence[Point]) -> list[str]:
        """What a reader of the results should know."""
        said = []
        most = max(point.workers for point in points)
        micro_batches = self._base.batch.micro_batches_per_step
        if micro_batches % most:
            said.append(
                f"{micro_batches} micro-batches a step cannot be dealt evenly to {most} workers: "
                f"--set batch.micro_batches_per_step={most * -(-micro_batches // most)} would"
            )
        grids = self._study.grids
        lost = [
            strategy.label
            for grid in grids
            if any(link != LOOPBACK for link in grid.links)
            for strategy in grid.strategies
            if isinstance(strategy.sync, HogwildSettings)
        ]
        if lost:
            said.append(f"{', '.join(lost)}: shared memory crosses no link, so it is left out there")
        return said


def _plain(value: Any) -> Any:
    return value.model_dump() if hasattr(value, "model_dump") else value
