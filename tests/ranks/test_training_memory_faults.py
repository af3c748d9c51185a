"""Out of memory in mid-run, on any rank: the step is taken again, and the training is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from jobs import train
from small import small_recipe

pytestmark = pytest.mark.slow

PROBES = {"seconds": 30, "micro_batches_per_step": 2, "pool_steps": 4, "probe_every": 6}


def run(folder: Path, corpus: Path, name: str, workers: int, **changes: Any) -> list[dict[str, Any]]:
    recipe = folder / f"{name}.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, **{"steps": 12, "batch": PROBES, **changes})))
    train(recipe, folder / name, workers=workers)
    return list(events.read(folder / name / "events.jsonl"))


def of_kind(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [event for event in found if event["event"] == kind]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return run(tmp_path_factory.mktemp("undisturbed"), corpus, "run", 1)


def test_a_step_without_memory_is_taken_again_to_the_same_effect(
    corpus: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    # In a step of its own kind each: one with buckets under way, and a probe step.
    disturbed = run(tmp_path, corpus, "run", 2, debug={"out_of_memory": {"3": 1, "5": 0}})
    told = of_kind(disturbed, "out_of_memory")
    assert [(event["step"], [each["rank"] for each in event["micro_batches"]]) for event in told] == [
        (3, [1]),
        (5, [0]),
    ]
    steps = (of_kind(undisturbed, "step"), of_kind(disturbed, "step"))
    assert [len(each) for each in steps] == [12, 12]
    for one, two in zip(*steps, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert two["utterances"] == one["utterances"]
        assert not two["skipped"]


def test_the_noise_scale_is_that_of_one_worker(
    corpus: Path, tmp_path: Path, undisturbed: list[dict[str, Any]]
) -> None:
    several = run(tmp_path, corpus, "run", 3)
    told = (of_kind(undisturbed, "noise_scale"), of_kind(several, "noise_scale"))
    assert [event["step"] for event in told[0]] == [event["step"] for event in told[1]] == [5, 11]
    for one, three in zip(*told, strict=True):
        for name in ("noise", "signal"):
            assert three[name] == pytest.approx(one[name], rel=1e-2)
