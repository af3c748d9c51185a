"""Counts of the planner against what the model really is: parameters, and what a forward pass keeps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from hocket.core.errors import UsageError
from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision, autocast
from hocket.parallel.recompute import kept_bytes
from hocket.planning import activations, calibration
from hocket.planning.calibration import Calibration, fit
from hocket.planning.demand import KINDS, Cut, Shape, demand, piece_parameters
from hocket.planning.nominal import rates_of
from hocket.planning.trials import Timing, random_batch, shared_model
from plans_on_paper import config


@pytest.mark.parametrize("tp", [1, 2])
@pytest.mark.parametrize(
    "reduced", [{}, {"subsampling_factor": 8, "attention_bias": False, "conv_bias": False}]
)
def test_parameters_of_pieces_are_those_of_the_model(tp: int, reduced: dict[str, object]) -> None:
    small = config(num_layers=2, hidden_size=32, ff_size=64, subsampling_channels=8, **reduced)
    held = sum(parameter.numel() for parameter in shared_model(small, Cut(tp=tp)).parameters())
    said = sum(piece_parameters(small, min(piece, 1), tp) for piece in range(3)) + piece_parameters(
        small, 3, tp
    )
    assert said == held


def _kept(model: ModelConfig, precision: Precision, rows: int, frames: int, cut: Cut) -> float:
    torch.manual_seed(0)
    made, batch = shared_model(model, cut), random_batch(model, rows, frames)

    def run() -> torch.Tensor:
        with autocast(precision, torch.device("cpu")):
            return made.loss(batch)

    return kept_bytes(made, run)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("cut", [Cut(), Cut(tp=2), Cut(sp=2)])
def test_what_is_kept_is_what_a_forward_pass_keeps(precision: Precision, cut: Cut) -> None:
    given = {"hidden_size": 64, "ff_size": 192, "num_heads": 4, "vocab_size": 96, "subsampling_channels": 24}
    for more in ({}, {"subsampling_factor": 8}):
        kept = {
            layers: _kept(config(num_layers=layers, **given, **more), precision, 3, 320, cut)
            for layers in (1, 2)
        }
        model, shape = config(num_layers=1, **given, **more), Shape(3, 320, 16)
        block = activations.kept_by_block(model, precision, shape, cut)
        assert block == pytest.approx(kept[2] - kept[1], rel=0.03)
        rest = activations.kept_by_subsampling(model, precision, shape, cut)
        rest += activations.kept_by_head(model, precision, shape, cut)
        assert rest == pytest.approx(2 * kept[1] - kept[2], rel=0.1)


def test_demand_grows_as_the_shape_does_and_splits() -> None:
    model = config()
    one, two = demand(model, Shape(2, 400, 20)), demand(model, Shape(4, 400, 20))
    products = KINDS.index("products")
    assert 1.9 < two[products] / one[products] <= 2.0
    assert demand(model, Shape(2, 800, 20))[KINDS.index("table")] == pytest.approx(
        4 * one[KINDS.index("table")], rel=0.01
    )
    halves = demand(model, Shape(2, 400, 20), Cut(sp=2))
    assert halves[KINDS.index("steps_of_trellis")] == 50 and halves[KINDS.index("table")] == 0
    assert 0.45 < halves[products] / one[products] < 0.6


def test_a_fit_finds_the_rates_that_made_the_times() -> None:
    rates = rates_of({"fp32": 1e11}, 1e10).passes["fp32"]
    timings = []
    for hidden in (64, 128, 256):
        for rows, frames in ((1, 160), (4, 160), (16, 160), (1, 800), (4, 1200)):
            counts = demand(config(hidden_size=hidden, ff_size=3 * hidden), Shape(rows, frames, frames // 20))
            timings.append(
                Timing(counts, rates.seconds(counts, "forward"), rates.seconds(counts, "backward"))
            )
    found, error = fit(timings)
    assert error < 0.02
    other = demand(config(hidden_size=192, num_layers=9), Shape(7, 500, 30))
    assert found.seconds(other, "forward") == pytest.approx(rates.seconds(other, "forward"), rel=0.05)


def test_rates_are_written_and_read_and_others_are_refused(tmp_path: Path) -> None:
    made = Calibration(calibration.VERSION, {"cpu": "x"}, "cpu", 1, 0.01, rates_of({"fp32": 1e11}, 1e10))
    path = tmp_path / "rates.json"
    made.write(path)
    assert calibration.read(path) == made
    path.write_text(path.read_text().replace('"version": 1', '"version": 7'))
    with pytest.raises(UsageError, match="version 7"):
        calibration.read(path)
    path.write_text("{}")
    with pytest.raises(UsageError, match="not rates of a machine"):
        calibration.read(path)
    with pytest.raises(UsageError, match="cannot read"):
        calibration.read(tmp_path / "none.json")


def test_tiles_begin_where_the_model_says() -> None:
    model = config(blockwise_above=50)
    assert activations.is_tiled(model, 51, Cut()) and not activations.is_tiled(model, 50, Cut())
    assert math.isfinite(activations.passing_block(model, "fp32", Shape(1, 400, 10), Cut()))
