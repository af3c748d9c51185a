"""A run that goes on under other layouts, as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hocket.core import events
from hocket.model import store
from hocket.training import checkpoint_store
from jobs import train

MODEL = {
    "preset": "tiny",
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 2,
    "ff_size": 64,
    "subsampling_channels": 4,
}
SETTINGS: dict[str, Any] = {
    "model": MODEL,
    "optimiser": {"lr": 1.0e-3, "warmup_steps": 4, "schedule": "constant"},
    "checkpoint": {"every_steps": 10},
    "ema": {"decay": 0.9},
}
STEPS = (20, 23, 26, 29)
"""Steps after which the layout changes, and the last one."""


def steps(run: Path) -> list[tuple[float, float, int]]:
    return [
        (event["loss"], event["grad_norm"], event["utterances"])
        for event in events.surviving_steps(run / "events.jsonl")
    ]


@pytest.mark.timeout(900)
def test_a_run_goes_on_under_other_layouts(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    alone, moved = tmp_path / "alone", tmp_path / "moved"
    recipe = write_recipe(steps=STEPS[-1], **SETTINGS)
    reference = train(recipe, alone, workers=1)
    done = train(recipe, moved, workers=4, options=("--layout", "tp=2", "--set", f"steps={STEPS[0]}"))
    assert done["layout"] == "dp_replicate=2,tp=2"
    for layout, last in (("pp=2", STEPS[1]), ("dp_shard=2", STEPS[2])):
        options = ("--resume", "--layout", layout, "--set", f"steps={last}")
        assert train(recipe, moved, workers=2, options=options)["layout"] == layout
    done = train(recipe, moved, workers=1, options=("--resume",))
    expected, found = steps(alone), steps(moved)
    assert [each[2] for each in found] == [each[2] for each in expected], "the order of the data"
    assert [each[0] for each in found] == pytest.approx([each[0] for each in expected], rel=2e-5)
    assert [each[1] for each in found] == pytest.approx([each[1] for each in expected], rel=1e-3)
    for name in ("audio_seconds", "dev_loss", "steps"):
        assert done[name] == pytest.approx(reference[name], rel=1e-3)
    assert (done["layout"], done["workers"]) == ("single", 1)


def test_a_split_run_leaves_a_whole_model_the_average_of_its_weights(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = write_recipe(steps=4, layout="dp_shard=2,tp=2,recompute=all", **SETTINGS)
    train(recipe, tmp_path / "split", workers=4)
    train(recipe, tmp_path / "whole", workers=1, options=("--layout", "dp_shard=1"))
    ours, theirs = (store.load(tmp_path / name / "model").state_dict() for name in ("split", "whole"))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value.shape == theirs[name].shape
        assert float((value - theirs[name]).abs().max()) < 1e-3, name
    start = json.loads((tmp_path / "split" / "events.jsonl").read_text().splitlines()[0])
    assert start["layout"] == "dp_shard=2,tp=2,recompute=all"
    whole = json.loads((tmp_path / "whole" / "events.jsonl").read_text().splitlines()[0])
    assert start["num_parameters"] == whole["num_parameters"]


def test_the_mean_of_checkpoints_of_a_split_run(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    changes = {"checkpoint": {"every_steps": 2, "keep_last": 2, "average": 2}, "ema": {"decay": 0.0}}
    recipe, run = write_recipe(steps=4, layout="tp=2", **{**SETTINGS, **changes}), tmp_path / "run"
    done = train(recipe, run, workers=2)
    averaged = next(each for each in events.read(run / "events.jsonl") if each["event"] == "average")
    assert (averaged["steps"], done["dev_loss"]) == ([2, 4], pytest.approx(averaged["loss"]))
    stored = [checkpoint_store.StoredTensors(path) for path in sorted((run / "checkpoints").glob("step-*"))]
    for name, value in store.load(run / "model").state_dict().items():
        expected = sum(each[f"model.{name}"].double() for each in stored) / 2
        assert torch.allclose(value.double(), torch.as_tensor(expected), atol=1e-7), name
