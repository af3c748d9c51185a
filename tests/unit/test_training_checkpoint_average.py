"""The mean of checkpoints: of which, of what, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from hocket.core.errors import CheckpointError, RunError, UsageError
from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, store
from hocket.training import checkpoint_store
from hocket.training.checkpoint_average import average, mean_weights
from hocket.training.recipe import TrainRecipe
from small import SMALL_MODEL


def write_run(folder: Path, *, seeds: tuple[int, ...] = (1, 2, 3), ema: bool = False) -> Path:
    """A run's folder with a checkpoint for each seed: its weights are those drawn by it."""
    config = ModelConfig.model_validate(SMALL_MODEL).with_tokens(5, 80)
    for step, seed in enumerate(seeds, 1):
        weights = build(config, seed).state_dict()
        tensors = {f"model.{name}": value for name, value in weights.items()}
        if ema:
            tensors |= {f"ema.{name}": 2 * value for name, value in weights.items() if "head" in name}
        temporary = folder / "checkpoints" / f".{step}"
        checkpoint_store.write_tensors(temporary, tensors, None)
        checkpoint_store.seal(temporary, checkpoint_store.folder_for(folder / "checkpoints", step), {})
    store.save(folder / "model", build(config, seeds[-1]), {"longest_seconds": 3.0})
    CharTokens.train(["abcd"]).save(folder / "model")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "run", ema=True)


def drawn(run: Path, *seeds: int) -> dict[str, torch.Tensor]:
    config = store.load_config(run / "model")
    states = [build(config, seed).state_dict() for seed in seeds]
    return {name: torch.stack([state[name].double() for state in states]).mean(0) for name in states[0]}


def test_it_is_the_mean_of_the_last_ones(run: Path, tmp_path: Path) -> None:
    found = average([run], tmp_path / "out", last=2)
    assert [path.name for path in found.checkpoints] == ["step-00000002", "step-00000003"]
    model = store.load(tmp_path / "out")
    for name, expected in drawn(run, 2, 3).items():
        assert torch.allclose(model.state_dict()[name].double(), expected, atol=1e-7)
    assert store.weights_sha256(model) == found.weights_sha256
    extra = store.read_config(tmp_path / "out")["extra"]
    assert extra["longest_seconds"] == 3.0
    assert extra["averaged"] == ["run/step-00000002", "run/step-00000003"]
    assert (tmp_path / "out" / "tokens.json").is_file()


def test_of_moving_averages_where_there_are_some(run: Path) -> None:
    names = drawn(run, 1)
    folders = checkpoint_store.whole_checkpoints(run / "checkpoints")
    found = dict(mean_weights(folders, names, ema=True))
    for name, expected in drawn(run, 1, 2, 3).items():
        factor = 2.0 if "head" in name else 1.0
        assert torch.allclose(found[name].double(), factor * expected, atol=1e-6)


def test_what_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"3 checkpoints, not 4"):
        average([run], tmp_path / "out", last=4)
    with pytest.raises(UsageError, match="there already"):
        average([run], run, last=1)
    with pytest.raises(RunError, match="no model yet"):
        average([tmp_path / "none"], tmp_path / "out", last=1)
    plain = write_run(tmp_path / "plain", seeds=(1,))
    with pytest.raises(CheckpointError, match="no moving average"):
        average([plain], tmp_path / "out", last=1, ema=True)
    torn = next((plain / "checkpoints" / "step-00000001").glob("*.distcp"))
    torn.write_bytes(torn.read_bytes()[:-1] + b"x")
    with pytest.raises(CheckpointError, match="altered"):
        average([plain], tmp_path / "out", last=1)


def test_a_recipe_says_one_way_to_choose_the_model() -> None:
    given = {"corpus": "none", "steps": 4, "checkpoint": {"average": 2}}
    assert TrainRecipe.model_validate(given).checkpoint.average == 2
    for more in ({"ema": {"decay": 0.9}}, {"sync": "server"}, {"checkpoint": {"average": 3}}):
        with pytest.raises(ValidationError, match="average"):
            TrainRecipe.model_validate(given | more)
