"""A whole study of two sizes, interrupted, stopped by its budget, failing once, and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from hocket.core.errors import RunError
from hocket.studies.batch import BatchStudy, Watch, running, study_batch
from hocket.studies.scale.study import EXIT_INTERRUPTED

pytestmark = pytest.mark.slow


def test_a_study_goes_on_where_it_ended(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out, said = write_recipe(steps=8), tmp_path / "study", []
    watch = Watch(said.append, lambda *_: None, lambda _: None, lambda _: None)
    study = {"times": (1, 2), "rules": ("sqrt",), "seeds": 1}
    whole = BatchStudy.model_validate(study)
    real_run, real_score, trained = running.run_once, running.score, []

    def run_once(*arguments: Any) -> Any:
        trained.append(arguments[0].steps)
        return real_run(*arguments)

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    def fail(*_: Any) -> Any:
        raise RunError("the loss is not finite")

    monkeypatch.setattr(running, "run_once", run_once)
    monkeypatch.setattr(running, "score", stop)
    with pytest.raises(RunError, match="interrupted; 0 of 2 runs are finished") as stopped:
        study_batch(recipe, out, whole, watch)
    assert stopped.value.exit_code == EXIT_INTERRUPTED
    monkeypatch.setattr(running, "score", real_score)
    first = study_batch(recipe, out, BatchStudy.model_validate({**study, "budget_minutes": 1e-3}), watch)
    assert (first.num_cells, first.num_planned) == (1, 2)
    assert trained == [8]  # only scored the second time
    assert "budget" in said[-1]

    monkeypatch.setattr(running, "run_once", fail)
    without = study_batch(recipe, out, whole, watch)
    assert list(without.failed.values()) == ["the loss is not finite"]
    assert without.runs == first.runs
    monkeypatch.setattr(running, "run_once", run_once)
    second = study_batch(recipe, out, whole, watch)
    assert (second.num_cells, second.failed) == (2, {})
    assert second.runs[0] == first.runs[0]
    assert trained == [8, 4]  # no run again
    told = json.loads((out / "batch.json").read_text())
    assert [size["batch_seconds"] for size in told["sizes"]] == [20, 40]
    for cell in (out / "cells").iterdir():
        assert any(event["event"] == "noise_scale" for event in events.read(cell / "run" / "events.jsonl"))
    assert (out / "batch.html").read_text().count("<svg") >= 3
