"""A worker of several processes, each with a part of every recording's frames."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from hocket.cli.main import app
from hocket.core.errors import UsageError
from hocket.corpus import audio
from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, store
from hocket.recognition import hypotheses
from hocket.recognition.job import recognize
from hocket.recognition.recognizer import Recognizer
from hocket.recognition.report import JobProgress
from jobs import await_end

SECONDS = (25.0, 1.3, 0.4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights and a limited context: what it babbles depends on every frame."""
    folder = tmp_path_factory.mktemp("run") / "model"
    tokens = CharTokens.train(["abcdefghijklmnopqrstuvwxyz '"])
    shape = {
        "preset": "tiny",
        "num_layers": 2,
        "left_context": 40,
        "right_context": 8,
        "blockwise_above": 200,
    }
    config = ModelConfig.model_validate({**shape, "vocab_size": tokens.vocab_size})
    store.save(folder, build(config, seed=1))
    tokens.save(folder)
    return folder


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("sounds"), np.random.default_rng(4)
    paths = [folder / f"{number}.wav" for number in range(len(SECONDS))]
    for path, seconds in zip(paths, SECONDS, strict=True):
        time_N = np.arange(round(seconds * 16_000)) / 16_000
        chirps = sum(np.sin(random.uniform(500, 9000) * time_N**p) for p in (1.0, 1.3, 0.7))
        soundfile.write(path, 0.1 * chirps + random.normal(0, 0.02, len(time_N)), 16_000)
    return paths


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_group_answers_as_one_process_does_and_is_replaced_when_one_of_it_is_lost(
    model: Path, sounds: list[Path], tmp_path: Path
) -> None:
    """The follower of the first group is killed as soon as the group is ready."""
    killed: list[int] = []
    seen: set[int] = set()

    def watch(progress: JobProgress) -> None:
        for worker in progress.workers:
            if worker.ready:
                followers = children(worker.pid)
                seen.update([worker.pid, *followers])
                if not killed:
                    killed.extend(followers)
                    for pid in followers:
                        os.kill(pid, signal.SIGKILL)

    out = tmp_path / "hyps.jsonl"
    names = [str(path) for path in sounds]
    report = recognize(model, names, out, sp=2, max_seconds=60.0, progress=watch)
    assert (report.num_utterances, report.num_failed, report.num_pieces) == (3, 0, 3)
    assert len(killed) == 1 and report.restarts == 1 and len(seen) == 4
    await_end(seen)  # followers end with their leaders, which the job has waited for
    assert any("group left with status -9" in loss for loss in report.losses)
    alone = Recognizer.load(model, device="cpu").transcribe([audio.read(path) for path in sounds])
    found = [hypothesis.text for hypothesis in hypotheses.read(out)]
    assert found == [hypothesis.text for hypothesis in alone]
    assert len(found[0]) > 100


def test_an_exported_model_is_not_split(model: Path, sounds: list[Path], tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "model.onnx").touch()
    with pytest.raises(UsageError, match=r"sp=2.*cannot be split"):
        recognize(exported, [str(sounds[0])], tmp_path / "hyps.jsonl", sp=2)
    with pytest.raises(UsageError, match="--engine processes"):
        recognize(model, [str(sounds[0])], tmp_path / "hyps.jsonl", sp=2, engine="ray")


@pytest.mark.parametrize("layout", ["tp=2", "sp", "sp=0", "2", "sp=two"])
def test_a_layout_that_recognition_has_not_is_refused(layout: str) -> None:
    arguments = ["recognize", "run", "a.wav", "--out", "hyps.jsonl", "--layout", layout]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == UsageError.exit_code
    assert "sp=N" in result.output
