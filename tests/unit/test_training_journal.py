"""What TensorBoard draws."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboardX import SummaryWriter

from hocket.training.journal import Journal


def test_curves_of_the_whole_and_of_each_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, tuple[float, int]] = {}

    def add_scalar(_self: SummaryWriter, name: str, value: float, step: int) -> None:
        drawn[name] = (value, step)

    monkeypatch.setattr(SummaryWriter, "add_scalar", add_scalar)
    journal = Journal(tmp_path / "events.jsonl", attempt=1, leads=True, tensorboard=tmp_path / "board")
    journal.write("step", step=3, loss=2.0, lr=0.1)
    scores = {"loss": 1.0, "wer": 0.5, "cer": 0.25}
    journal.write("validation", step=4, **scores, by_corpus={"calls": scores | {"wer": 0.75}})
    journal.close()
    assert drawn == {
        "train/loss": (2.0, 3),
        "train/lr": (0.1, 3),
        "validation/loss": (1.0, 4),
        "validation/wer": (0.5, 4),
        "validation/cer": (0.25, 4),
        "validation/loss/calls": (1.0, 4),
        "validation/wer/calls": (0.75, 4),
        "validation/cer/calls": (0.25, 4),
    }
