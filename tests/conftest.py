"""What several tests stand on: a small spoken corpus, and a recipe that trains on it in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hocket.corpus.prepare import prepare
from small import small_recipe

os.environ.setdefault("OMP_NUM_THREADS", "1")
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared synthetic corpus of 120 utterances; tests must not write into it."""
    folder = tmp_path_factory.mktemp("corpora") / "spoken"
    prepare("synthetic:utterances=120,seed=1", folder)
    return folder


@pytest.fixture
def write_recipe(corpus: Path, tmp_path: Path) -> Callable[..., Path]:
    """Writes a recipe for the small corpus; keyword arguments replace sections."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(small_recipe(**{"corpus": corpus, **changes})))
        return path

    return write
