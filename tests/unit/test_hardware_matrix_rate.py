"""The matrix rate: operations over seconds, the fastest shape counts."""

import itertools

import pytest
import torch

from hocket.comms.communicator import TorchCommunicator
from hocket.core import clock
from hocket.hardware import matrix_rate as probe
from hocket.model import FastConformerCTC, ModelConfig
from hocket.training.ceiling import find_ceiling, measured_before
from small import SMALL_MODEL

CPU = torch.device("cpu")


def test_the_rate_is_that_of_the_fastest_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(clock, "monotonic", lambda: float(next(ticks)))  # each run takes one second
    monkeypatch.setattr(probe, "_SQUARE", {"cpu": 8})
    assert probe.matrix_rate(CPU, torch.float32) == 2 * 8**3
    assert probe.matrix_rate(CPU, torch.float32, [(2, 3, 4), (16, 16, 16)]) == 2 * 16**3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_real_rate_is_that_of_a_machine(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_SQUARE", {"cpu": 128})
    monkeypatch.setattr(probe, "_SECONDS", 0.001)
    assert 1e7 < probe.matrix_rate(CPU, dtype) < 1e15


def test_a_rate_measured_by_an_earlier_attempt_counts_for_the_same_workers_only() -> None:
    how = {"workers": 2, "precision": "fp32", "threads": 1, "machine": {"cpu": "x"}}
    log = [{"event": "start", **how, "matrix_rate": 5e10}, {"event": "step", "step": 0}]
    assert measured_before(log, how) == 5e10
    assert measured_before(log, {**how, "workers": 1}) is None
    assert measured_before(log, {**how, "machine": {"cpu": "y"}}) is None


class Alone(TorchCommunicator):
    """A group of one, without processes."""

    def __init__(self) -> None:
        self.rank, self.world_size = 0, 1

    def barrier(self) -> None:
        return


def test_a_known_rate_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hocket.training.ceiling.matrix_rate", lambda *_: 7e9)
    config = ModelConfig.model_validate({**SMALL_MODEL, "vocab_size": 9})
    model = FastConformerCTC(config)
    trained = {name for name, _ in model.named_parameters()}
    found = [find_ceiling(trained, config, "fp32", CPU, Alone(), before) for before in (3e9, None)]
    assert [ceiling.matrix_rate for ceiling in found] == [3e9, 7e9]
