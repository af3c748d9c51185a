"""Layouts as they are written, and those that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hocket.comms.launch import ranks_per_host
from hocket.core import recipe as recipes
from hocket.core.errors import RecipeError, UsageError
from hocket.core.layout import Layout, LayoutField, LayoutSettings
from hocket.model.config import ModelConfig
from hocket.parallel.check import across_hosts, check
from hocket.training.recipe import TrainRecipe
from small import small_recipe


def read(given: Any) -> LayoutSettings:
    settings: LayoutSettings = TypeAdapter(LayoutField).validate_python(given)
    return settings


@pytest.mark.parametrize("given", ["tp=2, pp=2,recompute=all", {"tp": 2, "pp": 2, "recompute": "all"}])
def test_a_layout_is_written_as_text_or_as_a_mapping(given: Any) -> None:
    assert read(given).fill(8) == Layout(pp=2, tp=2, dp_replicate=2, recompute="all")


def test_replicas_fill_what_is_left_of_the_workers() -> None:
    assert read("tp=2").fill(6) == Layout(dp_replicate=3, tp=2)
    assert read("").fill(3) == Layout(dp_replicate=3)
    assert read("dp_replicate=2,dp_shard=2").least_workers == 4
    assert str(read("tp=2,schedule=gpipe,pp=2").fill(4)) == "pp=2,tp=2,schedule=gpipe"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("tp", "axis=degree"),
        ("tp=2,tp=4", "twice"),
        ("tp=0", "greater than or equal to 1"),
        ("zz=2", "Extra inputs"),
        ("recompute=some", "1500MB"),
        ("schedule=2f2b", "1f1b"),
    ],
)
def test_what_is_no_layout(given: str, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        read(given)


@pytest.mark.parametrize(
    ("given", "workers", "said"),
    [
        ("tp=2,pp=2", 6, "6 workers are not a multiple of the 4"),
        ("tp=4", 2, "2 workers are not a multiple of the 4"),
        ("tp=2,dp_replicate=3", 4, "dp_replicate=3 replicas of 2 ranks are 6 workers, not 4"),
    ],
)
def test_workers_that_do_not_fit(given: str, workers: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(given).fill(workers)


@pytest.mark.parametrize(
    ("layout", "changes", "said"),
    [
        (Layout(tp=8), {}, r"tp=8 is more than the model's 4 attention heads .*\n?.*: 1, 2, 4"),
        (Layout(tp=3), {}, "tp=3 does not divide num_heads, which is 4"),
        (Layout(tp=4), {"ff_size": 258}, "tp=4 does not divide ff_size, which is 258"),
        (Layout(tp=4), {"ff_size": 264}, "leaves 66 of ff_size 264 on a rank, .* not a multiple of 4"),
        (Layout(tp=3), {"num_heads": 3, "hidden_size": 96, "ff_size": 100}, "does not divide ff_size"),
        (Layout(tp=4), {"vocab_size": 3}, "more than the 3 tokens"),
        (Layout(pp=8), {}, "pp=8 .* makes 8 stages, .* into 7 pieces"),
        (Layout(pp=4, schedule="interleaved"), {}, "makes 8 stages"),
        (Layout(recompute=6), {}, "recompute=6 blocks, and the model has 5"),
        (Layout(pp=2, recompute="10MB"), {}, "10MB cannot be settled"),
    ],
)
def test_what_a_model_cannot_take_is_refused_with_the_number(
    layout: Layout, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        check(layout, ModelConfig.model_validate({"vocab_size": 30, **changes}))


def test_what_a_model_can_take_passes() -> None:
    for layout in (
        Layout(tp=4),
        Layout(pp=7),
        Layout(pp=3, schedule="interleaved"),
        Layout(dp_shard=9, sp=5),
    ):
        check(layout, ModelConfig(vocab_size=30))


def test_tensor_parallelism_across_hosts_is_warned_about() -> None:
    assert across_hosts(Layout(tp=4, dp_replicate=2), 4) is None
    assert across_hosts(Layout(dp_shard=8), 4) is None
    warning = across_hosts(Layout(tp=4), 2)
    assert warning is not None and "tp=4" in warning and "2 ranks a host" in warning
    assert ranks_per_host({"SLURM_TASKS_PER_NODE": "2(x3)", "WORLD_SIZE": "6"}) == 2
    assert ranks_per_host({"LOCAL_WORLD_SIZE": "4", "WORLD_SIZE": "8"}) == 4
    assert ranks_per_host({"WORLD_SIZE": "8"}) == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layout": "tp=2", "numerics": {"exact": True}}, "numerics.exact does not go with layout tp=2"),
        ({"layout": "sp=2", "numerics": {"exact": True}}, "numerics.exact does not go with layout sp=2"),
        ({"layout": "dp_shard=2", "sync": "gossip"}, "with sync.name gossip each worker holds a whole"),
    ],
)
def test_what_does_not_go_together_is_refused_by_the_recipe(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipes.dump(TrainRecipe.model_validate(small_recipe(Path("corpus")))))
    with pytest.raises(ValidationError, match=said):
        TrainRecipe.model_validate(small_recipe(Path("corpus"), **changes))
    with pytest.raises(RecipeError, match="layout"):
        recipes.load(path, TrainRecipe, ["layout=tp=two"])
    with pytest.raises(RecipeError, match=r"recipe\.yaml: numerics\.exact does not go .* dp_shard and pp$"):
        recipes.load(path, TrainRecipe, ["layout=tp=2", "numerics.exact=true"])
