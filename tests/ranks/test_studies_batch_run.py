"""A whole study of two sizes, stopped by its budget and gone on with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hocket.core import events
from hocket.studies.batch import BatchStudy, Watch, study_batch

pytestmark = pytest.mark.slow


def test_a_study_goes_on_where_its_budget_ended(write_recipe: Callable[..., Path], tmp_path: Path) -> None:
    recipe, out, said = write_recipe(steps=8), tmp_path / "study", []
    watch = Watch(said.append, lambda *_: None, lambda _: None, lambda _: None)
    study = {"times": (1, 2), "rules": ("sqrt",), "seeds": 1}
    first = study_batch(recipe, out, BatchStudy.model_validate({**study, "budget_minutes": 1e-3}), watch)
    assert (first.num_cells, first.num_planned) == (1, 2)
    assert "budget" in said[-1]
    second = study_batch(recipe, out, BatchStudy.model_validate(study), watch)
    assert second.num_cells == 2
    assert second.runs[0] == first.runs[0]  # not run again
    assert [run.steps for run in second.runs] == [8, 4]
    told = json.loads((out / "batch.json").read_text())
    assert [size["batch_seconds"] for size in told["sizes"]] == [20, 40]
    for cell in (out / "cells").iterdir():
        assert any(event["event"] == "noise_scale" for event in events.read(cell / "run" / "events.jsonl"))
    assert (out / "batch.html").read_text().count("<svg") >= 3
