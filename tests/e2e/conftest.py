"""A small corpus and a short run, made once by the command line itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from commands import STEPS, Done, Hocket, Trained, environment

from hocket.cli.main import app


@pytest.fixture(scope="session")
def hocket() -> Hocket:
    """Runs ``hocket`` with the given words, in a process of its own."""

    def run(*words: str | Path, cwd: Path | None = None) -> Done:
        command = [sys.executable, "-m", "hocket", *map(str, words)]
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def hocket_here(capfd: pytest.CaptureFixture[str]) -> Hocket:
    """Runs ``hocket`` with the given words in this process: for what only reads files or is refused."""

    def run(*words: str | Path) -> Done:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            app(list(map(str, words)), prog_name="hocket")
        out, err = capfd.readouterr()
        return Done(int(left.value.code or 0), out, err)

    return run


@pytest.fixture(scope="session")
def corpus(hocket: Hocket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of 60 utterances."""
    folder = tmp_path_factory.mktemp("corpora") / "small"
    done = hocket("prepare", "synthetic:utterances=60", folder)
    assert done.status == 0, done.err
    return folder


@pytest.fixture(scope="session")
def recipe(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe of a few steps of a very small model."""
    path = tmp_path_factory.mktemp("recipes") / "small.yaml"
    path.write_text(
        f"""\
corpus: {corpus}
seed: 1
steps: {STEPS}
model:
  preset: tiny
  hidden_size: 32
  num_layers: 1
  ff_size: 32
batch:
  seconds: 20
  micro_batches_per_step: 2
checkpoint:
  every_steps: 3
validation:
  every_steps: 3
"""
    )
    return path


@pytest.fixture(scope="session")
def trained(hocket: Hocket, recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of two workers."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = hocket("train", recipe, "--workers", "2", "--run", folder, "--json")
    assert done.status == 0, done.err
    return Trained(folder, done)
