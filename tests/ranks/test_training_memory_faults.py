"""Out of memory in mid-run, on any rank: the step is taken again, and the training is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from jobs import PATIENCE_SECONDS, job, train
from small import small_recipe

pytestmark = pytest.mark.slow

PROBES = {"seconds": 30, "micro_batches_per_step": 2, "pool_steps": 4, "probe_every": 3}


def run(folder: Path, corpus: Path, name: str, workers: int, **changes: Any) -> list[dict[str, Any]]:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, **{"steps": 8, "batch": PROBES, **changes})))
    train(recipe, folder / name, workers=workers)
    return list(events.read(folder / name / "events.jsonl"))


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in found if event["event"] == kind]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(tmp_path_factory.mktemp("undisturbed"), corpus, "run", 1)


@pytest.fixture(scope="module")
def disturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """On two workers, which are out of memory in a step of each kind: with buckets under way, and a probe."""
    folder = tmp_path_factory.mktemp("disturbed")
    return run(folder, corpus, "run", 2, debug={"out_of_memory": {"4": 1, "5": 0}})


def test_a_step_without_memory_is_taken_again_to_the_same_effect(
    undisturbed: list[dict[str, Any]], disturbed: list[dict[str, Any]]
) -> None:
    told = of_kind(disturbed, "out_of_memory")
    assert [(event["step"], [each["rank"] for each in event["micro_batches"]]) for event in told] == [
        (4, [1]),
        (5, [0]),
    ]
    steps = (of_kind(undisturbed, "step"), of_kind(disturbed, "step"))
    assert [len(each) for each in steps] == [8, 8]
    for one, two in zip(*steps, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert two["utterances"] == one["utterances"]
        assert not two["skipped"]


def test_the_noise_scale_is_that_of_one_worker(
    undisturbed: list[dict[str, Any]], disturbed: list[dict[str, Any]]
) -> None:
    alone, told = of_kind(undisturbed, "noise_scale"), of_kind(disturbed, "noise_scale")
    assert [event["step"] for event in alone] == [event["step"] for event in told] == [2, 5]
    for part in ("noise", "signal"):  # before memory was short: pieces are other samples
        assert told[0][part] == pytest.approx(alone[0][part], rel=1e-2)


def test_a_split_replica_without_memory_ends_the_run(corpus: Path, tmp_path: Path) -> None:
    changes = {"layout": "tp=2", "debug": {"out_of_memory": {"3": 1}}, "faults": {"max_restarts": 0}}
    recipe = tmp_path / "split.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, steps=6, batch=PROBES, **changes)))
    with job(recipe, tmp_path / "split", workers=2) as process:
        told = "".join(process.communicate(timeout=PATIENCE_SECONDS))
        assert process.returncode != 0
    assert "a micro-batch does not fit the memory" in told
    assert [event["step"] for event in events.surviving_steps(tmp_path / "split" / "events.jsonl")][-1] <= 3
