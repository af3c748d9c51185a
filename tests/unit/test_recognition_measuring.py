"""Measuring how fast this machine recognises, in every way that it has."""

from __future__ import annotations

import pytest
import torch

from hocket.planning.recognizing.rates import WAYS
from hocket.planning.trials import Trial
from hocket.recognition import measuring
from plans_on_paper import config


def test_every_way_is_measured_and_forecasts_what_it_was_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    small = config(num_layers=1, hidden_size=32, ff_size=64, subsampling_channels=8)
    shapes = ((1, 80), (4, 80), (1, 320))
    monkeypatch.setattr(measuring, "all_trials", lambda: [Trial(small, shapes)])
    monkeypatch.setattr(measuring, "_ROUNDS", 1)
    told: list[tuple[str, int, int]] = []
    found = measuring.rates_here(torch.device("cpu"), 1.5, lambda *each: told.append(each))
    assert set(found.rates.encoding) == set(WAYS) and not found.lacking
    assert found.rates.starting == 1.5 and found.device == "cpu"
    assert all(found.rates.seconds(small, way, *shape) > 0 for way in WAYS for shape in shapes)
    assert told[-1] == ("done", 4, 4)


def test_onnx_is_for_cpus() -> None:
    assert measuring.why_not(WAYS[1], torch.device("cuda")) == "ONNX Runtime computes on the CPU"
    assert measuring.why_not(WAYS[2], torch.device("cuda")) is None
