"""What runs teach the planner."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hocket.planning.demand import Shape, demand
from hocket.studies.planning import ledger
from hocket.studies.planning.ledger import Entry, corrected
from plans_on_paper import config, rates


def _entry(said: float, measured: float, precision: str = "bf16") -> Entry:
    return Entry(0.0, "runs/x", "cpu", precision, 2, "dp_replicate=2", "all_reduce", said, measured, {})


def test_rates_follow_the_runs_of_their_precision_from_the_third_on(tmp_path: Path) -> None:
    counts = demand(config(), Shape(4, 400, 20))
    before = rates().passes["bf16"].seconds(counts, "forward")
    for number, measured in enumerate((1.2, 1.3, 1.25)):
        found, notes = corrected(rates(), "cpu", tmp_path)
        assert found.passes["bf16"].seconds(counts, "forward") == before and not notes, number
        ledger.append(_entry(1.0, measured), tmp_path)
    found, notes = corrected(rates(), "cpu", tmp_path)
    assert found.passes["bf16"].seconds(counts, "forward") == pytest.approx(1.25 * before)
    assert found.passes["fp32"] == rates().passes["fp32"]
    assert "1.25" in notes[0]
    assert corrected(rates(), "cuda", tmp_path)[1] == []


def test_disturbed_runs_and_torn_lines_teach_nothing(tmp_path: Path) -> None:
    for measured in (1.0, 1.1, 1.2, 30.0, 0.01):
        ledger.append(_entry(1.0, measured, "fp32"), tmp_path)
    with (tmp_path / ledger.LEDGER).open("a") as file:
        file.write('{}\n7\n{"device": "cpu", "precision": "fp32", "said": 0.0, "measured": 1.0}\n')
        file.write(json.dumps({"said": 1.0})[:-3])
    found, _ = corrected(rates(), "cpu", tmp_path)
    ratio = np.asarray(found.passes["fp32"].forward) / np.asarray(rates().passes["fp32"].forward)
    assert ratio == pytest.approx(1.1)
