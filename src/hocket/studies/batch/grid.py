"""The runs of a study of batch sizes: all on the same audio, in the order in which they are worth most."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt, field_validator

from hocket.core.errors import UsageError
from hocket.core.recipe import Section
from hocket.corpus.report import read_corpus
from hocket.training.launch import resolve
from hocket.training.rates import rule_factor
from hocket.training.recipe import LrRule, TrainRecipe

TEST_SPLITS = ("test", "dev")
PROBES = 90
"""Probe steps of a run of the recipe's size, about: so that its first 15 % have a dozen."""

ALIKE = (
    "numerics.exact=false",
    "sync=all_reduce",
    "validation.patience=null",
    "validation.take=last",
    "validation.every_steps=0",
    "checkpoint.every_steps=1000000000",
    "tensorboard=false",
    "batch.growth=[]",
)
"""Laid over the recipe of every run, so that they differ in what is studied alone."""


class BatchStudy(Section):
    """What is compared."""

    times: tuple[PositiveInt, ...] = Field(default=(1, 2, 4, 8, 16), min_length=2)
    """Sizes of a step, in multiples of the recipe's, which is one of them."""

    rules: tuple[LrRule, ...] = Field(default=("sqrt", "linear", "none"), min_length=1)
    """Learning-rate rules; the first is recommended, and has all the seeds."""

    seeds: int = Field(default=3, ge=1)
    """Of the first rule; the others have one."""

    workers: int = Field(default=1, ge=1)
    budget_minutes: float | None = Field(default=None, gt=0)
    """No run is begun that would probably end after this; the same command goes on later."""

    set: tuple[str, ...] = ()

    @field_validator("times")
    @classmethod
    def _own_size(cls, given: tuple[int, ...]) -> tuple[int, ...]:
        if 1 not in given:
            raise ValueError("1, the recipe's own size, must be among them: the others are held against it")
        return given


@dataclass(frozen=True)
class Cell:
    """One run."""

    times: int
    rule: LrRule
    seed: int
    recipe: TrainRecipe
    fingerprint: str
    """Of all that decides what comes out."""

    @property
    def label(self) -> str:
        """``x4, sqrt, seed 1``."""
        rule = "" if self.times == 1 else f", {self.rule}"
        return f"x{self.times}{rule}, seed {self.seed}"

    @property
    def folder(self) -> str:
        """Its folder's name."""
        return f"x{self.times}-{self.rule}-seed{self.seed}-{self.fingerprint[:10]}"


@dataclass(frozen=True)
class Grid:
    """All runs of a study."""

    cells: tuple[Cell, ...]
    corpus: Path
    split: str
    """What is recognised with every model."""
    base: TrainRecipe


def expand(path: Path, study: BatchStudy) -> Grid:
    """The first rule over all sizes, then the others, then the other seeds; the recipe's own size once.

    A step of size N has N times the audio and the micro-batches, a run as much audio as the recipe's.
    Raises :class:`UsageError` for what cannot be compared.
    """
    base = _rule_settled(resolve(path, [*study.set, *ALIKE]))
    if base.steps is None:
        raise UsageError(f"{path}: it counts epochs; a study counts steps", "Give --set steps=N.")
    if base.steps // max(study.times) < 2:
        raise UsageError(
            f"--times {max(study.times)}: {base.steps} steps of the recipe leave less than two",
            "Raise steps, or leave the largest size out.",
        )
    if len(base.corpora) != 1:
        raise UsageError(f"{path}: a study scores one corpus, and this recipe mixes {len(base.corpora)}")
    corpus = base.corpora[0].path
    told = read_corpus(corpus)
    split = next((name for name in TEST_SPLITS if name in told["splits"]), None)
    if split is None:
        raise UsageError(f"{corpus}: no split called {' or '.join(TEST_SPLITS)} to score")
    found: dict[str, Cell] = {}
    for turn in range(study.seeds):
        for place, rule in enumerate(study.rules):
            for times in study.times:
                if turn == 0 or place == 0:
                    cell = _cell(base, times, rule, base.seed + turn, str(told["fingerprint"]))
                    found.setdefault(cell.fingerprint, cell)
    return Grid(tuple(found.values()), corpus, split, base)


def _rule_settled(recipe: TrainRecipe) -> TrainRecipe:
    """A recipe with the learning rate that its own rule comes to: the study's rules go on from there."""
    optimiser = recipe.optimiser
    if optimiser.reference_seconds is None:
        return recipe
    factor = rule_factor(optimiser.lr_rule, recipe.batch.seconds, optimiser.reference_seconds)
    changes = {"lr": optimiser.lr * factor, "lr_rule": "none", "reference_seconds": None}
    return recipe.model_copy(update={"optimiser": optimiser.model_copy(update=changes)})


def _cell(base: TrainRecipe, times: int, rule: LrRule, seed: int, corpus: str) -> Cell:
    assert base.steps is not None
    steps = round(base.steps / times)
    optimiser: dict[str, Any] = {"warmup_steps": round(base.optimiser.warmup_steps / times)}
    if times > 1 and rule != "none":
        optimiser |= {"lr_rule": rule, "reference_seconds": base.batch.seconds}
    changes = {
        "seed": seed,
        "steps": steps,
        "batch": {
            "seconds": base.batch.seconds * times,
            "micro_batches_per_step": base.batch.micro_batches_per_step * times,
            "pool_steps": max(1, base.batch.pool_steps // times),  # so that pools stay as they are
            "probe_every": max(2, round(base.steps / PROBES)),  # the same part of all sizes' audio
        },
        "optimiser": optimiser,
    }
    whole = base.model_dump()
    for name, value in changes.items():
        whole[name] = {**whole[name], **value} if isinstance(value, dict) else value
    recipe = TrainRecipe.model_validate(whole)
    decides = {"recipe": recipe.model_dump(mode="json", exclude={"corpus"}), "corpus": corpus}
    fingerprint = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
    return Cell(times, rule, seed, recipe, fingerprint)
