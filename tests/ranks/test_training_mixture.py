"""Two corpora, noise, rooms and an average of the weights: the same on any workers, through a kill."""

import json
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from hocket.corpus.prepare import PrepareSettings, prepare
from jobs import finish, held, job, kill_launcher, learnt, train, wait_for_step
from small import small_recipe

pytestmark = pytest.mark.slow


def test_mixed_corpora_give_the_same_model_on_any_workers(corpus: Path, tmp_path: Path) -> None:
    # The same voices and ids with other words: ids collide.
    second = tmp_path / "second"
    prepare("synthetic:utterances=40,seed=1", second, settings=PrepareSettings(tokens=str(corpus)))
    changes: dict[str, Any] = {
        "corpus": [{"path": str(corpus), "name": "first"}, {"path": str(second), "weight": 2.5}],
        "numerics": {"exact": True},
        "validation": {"every_steps": 6},
        "augment": {"noise": {"probability": 0.5}, "reverb": {"probability": 0.5}},
        "ema": {"decay": 0.7},
        "tensorboard": True,
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus) | changes))
    alone = train(recipe, tmp_path / "alone", workers=1)
    run = tmp_path / "run"
    with job(recipe, run, workers=3, options=held(14, tmp_path / "never")) as process:
        wait_for_step(run, 7)
        kill_launcher(process, run)
    with job(recipe, run, workers=2, options=("--resume",)) as process:
        summary = finish(process)
    assert summary["weights_sha256"] == alone["weights_sha256"]
    assert learnt(run) == learnt(tmp_path / "alone")
    for name in ("audio_seconds_by_corpus", "dev_by_corpus", "dev_loss"):
        assert summary[name] == alone[name]
    assert set(summary["dev_by_corpus"]) == set(summary["audio_seconds_by_corpus"]) == {"first", "second"}
    seconds = summary["audio_seconds_by_corpus"]
    assert sum(seconds.values()) == pytest.approx(summary["audio_seconds"], abs=0.01)

    (start,) = [e for e in events.read(tmp_path / "alone" / "events.jsonl") if e["event"] == "start"]
    share = seconds["second"] / sum(seconds.values())
    assert share == pytest.approx(start["corpora"]["second"]["share"], abs=0.1)

    wrong = ("--resume", "--set", "corpus=" + json.dumps([changes["corpus"][0], {"path": str(second)}]))
    with job(recipe, run, workers=1, options=wrong) as process:
        _, err = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "another plan of batches" in err
