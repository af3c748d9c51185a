"""Recipes: what they may say, and how a mistake is told."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from hocket.core import recipe as recipes
from hocket.core.errors import RecipeError, RunError
from hocket.training.folder import RunFolder
from hocket.training.launch import resolve, start
from hocket.training.optimiser import learning_rate
from hocket.training.recipe import OptimiserSettings, TrainRecipe


def test_an_unknown_key_names_the_line_and_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("corpus: here\nsteps: 3\noptimiser:\n  lr: 0.1\n  warmup_step: 4\n")
    with pytest.raises(
        RecipeError, match=r"recipe\.yaml:5: unknown key 'optimiser\.warmup_step'.*'warmup_steps'"
    ):
        recipes.load(path, TrainRecipe)


def test_a_wrong_value_names_the_line_and_the_key(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("corpus: here\nsteps: 3\nbatch:\n  seconds: -1\n")
    with pytest.raises(RecipeError, match=r"recipe\.yaml:4: batch\.seconds: .*greater than 0.*-1"):
        recipes.load(path, TrainRecipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("corpus: [", "not YAML"),
        ("- a list", "a mapping"),
        ("steps: 3", "'corpus' is missing"),
        ("corpus: x", "either steps or epochs"),
        ("corpus: x\nsteps: 1\nepochs: 1", "either steps or epochs"),
        ("corpus: x\nsteps: 1\nmodel: {preset: huge}", "no preset 'huge'"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        recipes.load(path, TrainRecipe)


def test_overrides_reach_nested_keys_and_are_checked(write_recipe: Callable[..., Path]) -> None:
    changed = recipes.load(write_recipe(), TrainRecipe, ["optimiser.lr=0.5", "model.num_layers=3"])
    assert changed.optimiser.lr == 0.5
    assert changed.model.num_layers == 3
    with pytest.raises(RecipeError, match=r"unknown key 'optimiser\.learning'"):
        recipes.load(write_recipe(), TrainRecipe, ["optimiser.learning=1"])
    with pytest.raises(RecipeError, match=r"key\.path=value"):
        recipes.load(write_recipe(), TrainRecipe, ["optimiser.lr"])


def test_a_resolved_recipe_reads_back_as_it_was(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    settled = resolve(write_recipe(), [])
    copy = tmp_path / "resolved.yaml"
    copy.write_text(recipes.dump(settled))
    assert recipes.load(copy, TrainRecipe) == settled


def test_a_corpus_that_is_not_there_says_how_to_make_it(write_recipe: Callable[..., Path]) -> None:
    with pytest.raises(RecipeError, match="hocket prepare"):
        resolve(write_recipe(corpus="nowhere"), [])


def test_a_run_folder_is_not_used_twice_by_mistake(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), resolve(write_recipe(), [])
    with pytest.raises(RunError, match="no run to go on with"):
        start(folder, recipe, resume=True)
    start(folder, recipe, resume=False)
    with pytest.raises(RunError, match="--resume"):
        start(folder, recipe, resume=False)
    start(folder, recipe, resume=True)


def test_a_measured_cost_is_never_fitted_again(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    folder, recipe = RunFolder(tmp_path / "run"), resolve(write_recipe(), ["batch.cost=measured"])
    start(folder, recipe, resume=False)
    fitted = resolve(write_recipe(), ["batch.cost={a0: 1, a: 2, b: 3, c: 4}"])
    folder.recipe.write_text(recipes.dump(fitted))
    start(folder, recipe, resume=True)
    assert recipes.load(folder.recipe, TrainRecipe).batch.cost == fitted.batch.cost


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "inverse_sqrt"])
def test_the_learning_rate_warms_up_and_never_rises_after(schedule: str) -> None:
    settings = OptimiserSettings.model_validate({"lr": 0.5, "warmup_steps": 10, "schedule": schedule})
    rates = [learning_rate(settings, step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[9] == pytest.approx(0.5)
    assert all(a >= b for a, b in pairwise(rates[9:]))
    if schedule in ("linear", "cosine"):
        assert rates[-1] == pytest.approx(0.005)
