"""Recipes: what they may say, and how a mistake is told."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hocket.cli.main import app
from hocket.core import recipe as recipes
from hocket.core.errors import RecipeError, RunError
from hocket.sync import AllReduceSettings
from hocket.sync.compression import TopK
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.outer import BlockMomentum
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


def sync_recipe(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"corpus: x\nsteps: 1\n{text}\n")
    return path


def test_a_section_of_several_forms_is_named(tmp_path: Path) -> None:
    path = sync_recipe(
        tmp_path, "sync: {name: local_sgd, outer: bmuf, compression: {name: top_k, density: 0.5}}"
    )
    read = recipes.load(path, TrainRecipe, ["sync.sync_every=8", "sync.outer.block_momentum=0.25"]).sync
    assert isinstance(read, LocalSgdSettings)
    assert read.sync_every == 8
    assert read.outer == BlockMomentum(block_momentum=0.25)
    assert read.compression == TopK(density=0.5)
    assert isinstance(
        recipes.load(sync_recipe(tmp_path, "sync: local_sgd"), TrainRecipe).sync, LocalSgdSettings
    )
    nameless = recipes.load(sync_recipe(tmp_path, "sync: {bucket_mb: 2}"), TrainRecipe).sync
    assert nameless == AllReduceSettings(bucket_mb=2)
    copy = tmp_path / "resolved.yaml"
    copy.write_text(recipes.dump(recipes.load(path, TrainRecipe)))
    assert recipes.load(copy, TrainRecipe) == recipes.load(path, TrainRecipe)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sync: {name: local_sgd, sync_evry: 4}",
            r"yaml:3: unknown key 'sync\.sync_evry'. Did you mean 'sync_every'",
        ),
        (
            "sync:\n  name: local_sdg",
            r"yaml:3: sync\.name: there is no 'local_sdg'. Did you mean 'local_sgd'",
        ),
        ("sync: {compression: 2bit}", r"sync\.compression\.name: there is no '2bit'. Did you mean 'one_bit'"),
        (
            "sync:\n  compression:\n    name: one_bit\n    groups: 512",
            r"yaml:6: unknown key 'sync\.compression\.groups'. Did you mean 'group'",
        ),
        ("sync: {sync_every: 4}", r"unknown key 'sync\.sync_every'. Known here: .*compression"),
        ("sync: {compression: {name: one_bit, group: 64}}", r"sync\.compression\.group: .*512"),
        ("sync: local_sgd\nnumerics: {exact: true}", "exact adds all gradients as integers"),
        ("sync: {compression: bf16}\nnumerics: {exact: true}", "exact adds all gradients as integers"),
    ],
)
def test_a_mistake_in_a_form_is_said_in_the_recipes_words(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        recipes.load(sync_recipe(tmp_path, text), TrainRecipe)


def test_the_option_sync_takes_the_recipes_place_and_set_goes_over_it(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[TrainRecipe] = []

    def train(recipe: Path, *, overrides: list[str], **_others: object) -> None:
        taken.append(recipes.load(recipe, TrainRecipe, overrides))
        raise RunError("enough")

    monkeypatch.setattr("hocket.training.launch.train", train)
    path = write_recipe(sync={"name": "all_reduce", "compression": "one_bit"})
    command = [
        "train",
        str(path),
        "--sync",
        "local_sgd",
        "--set",
        "sync.sync_every=3",
        "--run",
        str(tmp_path),
    ]
    assert CliRunner().invoke(app, command).exit_code != 0
    assert taken[0].sync == LocalSgdSettings(sync_every=3)


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
