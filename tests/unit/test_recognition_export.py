"""A model written for another program: what is in the folder, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from hocket.core.errors import RunError, UsageError
from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, hf, store
from hocket.recognition.export import export
from small import SMALL_MODEL

TOKENS = CharTokens(" abc")


def run(folder: Path, conv_norm: str = "frozen_batch_norm") -> Path:
    config = ModelConfig.model_validate({**SMALL_MODEL, "conv_norm": conv_norm, "num_mel_bins": 64})
    store.save(folder / "model", build(config.with_tokens(TOKENS.vocab_size), seed=3))
    TOKENS.save(folder / "model")
    return folder


def test_a_hugging_face_folder_has_the_weights_the_features_and_the_tokens(tmp_path: Path) -> None:
    source = run(tmp_path / "run")
    report = export(source, tmp_path / "out" / "deep", "hf")
    trained = store.load(source / "model")
    written = hf.load(report.out)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in written.state_dict().items())
    assert report.source_sha256 == store.weights_sha256(trained)
    assert report.files.keys() == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokens.json",
    }
    heard = json.loads((report.out / "preprocessor_config.json").read_text())
    assert (heard["feature_size"], heard["hop_length"], heard["sampling_rate"]) == (64, 160, 16_000)
    assert CharTokens.load(report.out).fingerprint == TOKENS.fingerprint


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"'ghost' is not known\n.*hf"):
        export(run(tmp_path / "run"), out, "ghost")
    with pytest.raises(UsageError, match="conv_norm: frozen_batch_norm"):
        export(run(tmp_path / "other", conv_norm="layer_norm"), out, "hf")
    with pytest.raises(RunError, match="no such run"):
        export(tmp_path / "none", out, "hf")
    assert {path.name for path in tmp_path.iterdir()} == {"run", "other"}
    out.mkdir()
    with pytest.raises(RunError, match="there already"):
        export(tmp_path / "run", out, "hf")
