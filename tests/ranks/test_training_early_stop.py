"""Early stopping on several workers, through a kill and a signal: the same step, the same model."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from hocket.model import store
from jobs import finish, held, job, kill_launcher, train, wait_for_step
from small import small_recipe

pytestmark = pytest.mark.slow

SETTINGS = {
    "numerics": {"exact": True},
    "ema": {"decay": 0.5},
    "steps": 400,
    "optimiser": {"lr": 3.0e-3, "warmup_steps": 2, "schedule": "constant"},
    # A loss that must be better by so much is not waited on for long.
    "validation": {"every_steps": 2, "metric": "loss", "patience": 2, "min_delta": 0.5},
    "checkpoint": {"every_steps": 3, "keep_best": 1},
}


def validations(run: Path) -> dict[int, float]:
    return {
        event["step"]: event["loss"]
        for event in events.read(run / "events.jsonl")
        if event["event"] == "validation"
    }


def outcome(summary: dict[str, Any]) -> tuple[Any, ...]:
    names = ("steps", "stopped_early", "model_step", "dev_loss", "weights_sha256")
    return tuple(summary[name] for name in names)


def test_it_stops_after_the_same_step_however_it_was_disturbed(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, **SETTINGS)))
    alone = train(recipe, tmp_path / "alone", workers=1)
    seen = validations(tmp_path / "alone")
    last, best = alone["steps"], min(seen, key=lambda step: (seen[step], step))
    assert alone["stopped_early"]
    assert last < 400
    assert alone["model_step"] == best
    assert alone["dev_loss"] == seen[best]
    model = tmp_path / "alone" / "model"
    assert store.weights_sha256(store.load(model)) == alone["weights_sha256"]

    killed = tmp_path / "killed"
    with job(recipe, killed, workers=3, options=held(last - 1, tmp_path / "never")) as process:
        wait_for_step(killed, last - 3)  # after a validation in vain, before the one that ends the run
        kill_launcher(process, killed)
    assert outcome(train(recipe, killed, workers=2, options=("--resume",))) == outcome(alone)
    assert validations(killed) == seen

    # A run that has stopped has nothing to do any more, and goes on with more patience.
    assert outcome(train(recipe, killed, workers=1, options=("--resume",))) == outcome(alone)
    more = ("--resume", "--set", "validation.patience=3")
    assert train(recipe, killed, workers=1, options=more)["steps"] > last

    # A signal in the place of a validation puts it off, and does not leave it out.
    stopped, steps = tmp_path / "stopped", 16
    options = (
        "--set",
        "validation.every_steps=1",
        "--set",
        "validation.patience=99",
        "--set",
        f"steps={steps}",
    )
    with job(recipe, stopped, workers=1, options=(*options, *held(12, stopped / "stop"))) as process:
        wait_for_step(stopped, 1)
        process.send_signal(signal.SIGTERM)
        finish(process)
    train(recipe, stopped, workers=1, options=("--resume", *options))
    assert set(validations(stopped)) == set(range(1, steps + 1))
