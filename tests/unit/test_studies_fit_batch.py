"""The largest micro-batch for a limit: the model of memory, and the search around it."""

from __future__ import annotations

import json
import operator
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hocket.core import recipe as recipes
from hocket.core.cost import CostModel
from hocket.core.errors import RunError, UsageError
from hocket.corpus.mixture import CorpusMixture
from hocket.studies.fit_batch import bench, fit_batch, search
from hocket.studies.fit_batch.apart import Apart
from hocket.studies.fit_batch.bench import Shape
from hocket.studies.fit_batch.needs import Needs
from hocket.training.launch import resolve
from hocket.training.parts import make_plan
from hocket.training.recipe import TrainRecipe

SHAPES = [Shape(b, t, u) for b, t in ((1, 100), (8, 100), (4, 400), (1, 1500)) for u in (5, 60)]


def test_needs_are_found_again() -> None:
    truth = Needs(3.0, 2e-2, 1e-5, 1e-4)
    fitted = Needs.fit(SHAPES, [truth(shape) for shape in SHAPES])
    for shape in (Shape(16, 300, 30), Shape(2, 2000, 100)):
        assert fitted(shape) == pytest.approx(truth(shape), rel=0.02)


def test_a_process_apart_answers_fails_or_is_gone() -> None:
    with Apart({"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "7"}) as apart:
        assert apart.call(os.getenv, "ONEDNN_PRIMITIVE_CACHE_CAPACITY") == "7"
        assert apart.call(os._exit, 3) is None
        with pytest.raises(RunError, match="ZeroDivisionError"):
            apart.call(operator.floordiv, 1, 0)


def true_need(seconds: float) -> float:
    """What micro-batches of so many seconds take in the tests below."""
    return 10.0 + 6.0 * seconds


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[float]:
    """Measuring and trying, without either: the prediction is a fifth too low, if not told otherwise."""
    wrong = getattr(request, "param", 0.8)
    tried: list[float] = []

    class Simulated(Apart):
        def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
            if function is bench.measure:
                need = Needs(8.0, 6.0 * 0.01 * wrong, 0.0, 0.0)
                return 100.0, [need(Shape.of(spec)) for spec in arguments[2]]
            recipe, *_, limit = arguments
            size = recipe.batch.seconds / recipe.batch.micro_batches_per_step
            tried.append(size)
            return 100.0 + true_need(size) <= limit

    monkeypatch.setattr(search, "Apart", Simulated)
    return tried


@pytest.mark.parametrize("limit", [130, 150, 200, 400, 5000])
def test_it_closes_in_on_the_largest_size(
    limit: int, simulated: list[float], write_recipe: Callable[..., Path]
) -> None:
    recipe = resolve(write_recipe(batch={"seconds": 60, "micro_batches_per_step": 4}), [])
    found = fit_batch(recipe, limit_mb=limit, grow=True)
    largest = (limit - 110.0) / 6.0
    assert found.micro_batch_seconds <= largest
    assert found.micro_batches_per_step == 4
    # An epoch has a whole number of steps: the next larger ones would be too large, or hardly larger.
    epoch = make_plan(
        recipe, CorpusMixture.open(recipe.corpora, "train"), CostModel(1, 0, 1, 0)
    ).seconds_per_epoch
    steps = round(epoch / found.batch_seconds)
    assert found.batch_seconds == pytest.approx(epoch / steps, rel=1e-3)
    assert steps == 1 or epoch / (steps - 1) / 4 > min(largest, 1.06 * found.micro_batch_seconds)
    assert len(simulated) == len(set(simulated)) <= 12


def test_it_keeps_the_step_and_finds_the_fewest_pieces(
    simulated: list[float], write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = resolve(write_recipe(batch={"seconds": 60, "micro_batches_per_step": 4}), [])
    found = fit_batch(recipe, limit_mb=170, workers=2, write=tmp_path / "fitted.yaml")
    # 10 s fit: sixths of a step do, quarters of 15 s do not.
    assert (found.batch_seconds, found.micro_batches_per_step) == (60, 6)
    written = recipes.load(tmp_path / "fitted.yaml", TrainRecipe)
    assert written.batch.micro_batches_per_step == 6
    assert written.memory.limit_mb == 170
    assert written.batch.seconds == recipe.batch.seconds
    json.dumps([trial.fits for trial in found.trials])


@pytest.mark.parametrize("simulated", [5.0], indirect=True)
def test_a_prediction_far_too_high_costs_trials_and_not_size(
    simulated: list[float], write_recipe: Callable[..., Path]
) -> None:
    recipe = resolve(write_recipe(batch={"seconds": 600, "micro_batches_per_step": 8}), [])
    found = fit_batch(recipe, limit_mb=410)
    assert found.micro_batches_per_step == 12  # of 50 s; predicted were 60 and more
    assert max(simulated) > 50.0
    assert len(simulated) <= 12


def test_what_cannot_be(
    simulated: list[float], write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = resolve(write_recipe(), [])
    with pytest.raises(UsageError, match="which limit"):
        fit_batch(recipe, limit_mb=None)
    with pytest.raises(UsageError, match="a worker holds 100"):
        fit_batch(recipe, limit_mb=90)
    with pytest.raises(UsageError, match="nothing fits"):
        fit_batch(recipe, limit_mb=104)
    monkeypatch.setattr(search, "choose_device", lambda _: torch.device("cuda"))
    with pytest.raises(UsageError, match="not that of a GPU"):
        fit_batch(recipe, limit_mb=200)
    for name, value in (("layout", "tp=2"), ("sync", "server")):
        with pytest.raises(UsageError, match=f"{name}"):
            fit_batch(resolve(write_recipe(**{name: value}), []), limit_mb=200)
