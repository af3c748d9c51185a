"""A killed worker under strategies that keep state of their own: restarted, with the same weights."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from jobs import finish, held, job, learnt, rank_pid, train, wait_for_step
from small import small_recipe

pytestmark = pytest.mark.slow

STRATEGIES: list[dict[str, Any]] = [
    {"name": "all_reduce", "compression": "one_bit"},
    {"name": "local_sgd", "sync_every": 4, "outer": "nesterov", "overlap_steps": 2, "compression": "top_k"},
]


@pytest.mark.parametrize("sync", STRATEGIES, ids=lambda s: s["name"])
def test_a_killed_worker_costs_time_and_nothing_else(
    sync: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, sync=sync)))
    undisturbed = train(recipe, tmp_path / "undisturbed", workers=2)
    run = tmp_path / "run"
    with job(recipe, run, workers=2, options=held(15, tmp_path / "killed")) as process:
        wait_for_step(run, 10 if sync["name"] == "all_reduce" else 7)
        os.kill(rank_pid(run, 1), signal.SIGKILL)
        (tmp_path / "killed").touch()
        summary = finish(process)
    assert summary["weights_sha256"] == undisturbed["weights_sha256"]
    assert learnt(run) == learnt(tmp_path / "undisturbed")
    told = events.read(run / "events.jsonl")
    restarts = [event for event in told if event["event"] == "restart"]
    assert [event["rank"] for event in restarts] == [1]
    assert "SIGKILL" in restarts[0]["reason"]
    if sync["name"] == "local_sgd":
        saved = [event["step"] for event in told if event["event"] == "checkpoint"]
        assert all(step % 4 == 0 for step in saved)  # due every third step, taken where replicas agree


def test_it_goes_on_with_another_number_of_workers(corpus: Path, tmp_path: Path) -> None:
    sync = {"name": "local_sgd", "sync_every": 2, "outer": "bmuf", "compression": "one_bit"}
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    recipe.write_text(json.dumps(small_recipe(corpus, sync=sync)))
    with job(recipe, run, workers=3, options=held(10, run / "stop")) as process:
        wait_for_step(run, 5)
        process.send_signal(signal.SIGTERM)
        told = finish(process)
    assert told["finished"] is False
    assert told["steps"] % 2 == 0
    summary = train(recipe, run, workers=2, options=("--resume",))
    assert summary["steps"] == 16
    assert [step for step, _ in learnt(run)] == list(range(16))
    assert summary["sync"] == "local_sgd"
    assert summary["bytes_per_step"] > 0
