"""The average of the weights on several workers: the same, through kills and on other numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from hocket.model import store
from jobs import finish, held, job, kill_launcher, train, wait_for_step
from small import small_recipe

EXACT = {"numerics": {"exact": True}, "validation": {"every_steps": 8}}

pytestmark = pytest.mark.slow


def write(folder: Path, corpus: Path, **changes: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(small_recipe(corpus, **EXACT, **changes)))
    return path


def test_it_is_bit_equal_on_any_workers_and_through_a_kill(corpus: Path, tmp_path: Path) -> None:
    recipe = write(tmp_path, corpus, ema={"decay": 0.8})
    alone = train(recipe, tmp_path / "alone", workers=1)
    plain = train(recipe, tmp_path / "plain", workers=1, options=("--set", "ema.decay=0"))
    run = tmp_path / "run"
    with job(recipe, run, workers=3, options=held(14, tmp_path / "never")) as process:
        wait_for_step(run, 9)
        kill_launcher(process, run)
    with job(recipe, run, workers=2, options=("--resume",)) as process:
        summary = finish(process)
    assert summary["weights_sha256"] == alone["weights_sha256"]
    assert summary["dev_wer"] == alone["dev_wer"]
    assert summary["ema_decay"] == 0.8
    # The average is what comes out and what is validated; the steps taken are those without it.
    assert plain["weights_sha256"] != alone["weights_sha256"]
    losses = [
        [event["loss"] for event in events.surviving_steps(tmp_path / name / "events.jsonl")]
        for name in ("alone", "plain", "run")
    ]
    assert losses[0] == losses[1] == losses[2]
    dev = [
        [
            event["loss"]
            for event in events.read(tmp_path / name / "events.jsonl")
            if event["event"] == "validation"
        ]
        for name in ("alone", "plain")
    ]
    assert dev[0] != dev[1]
    assert store.weights_sha256(store.load(run / "model")) == summary["weights_sha256"]
