"""Models in ONNX: the same numbers as in torch, and a folder that sherpa-onnx loads as it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hocket.core.errors import CheckpointError, UsageError
from hocket.corpus.tokens import CharTokens
from hocket.model import ModelConfig, build, store
from hocket.recognition import opening
from hocket.recognition.encoders import TorchEncoder
from hocket.recognition.export import export
from hocket.recognition.recognizer import Recognizer
from small import SMALL_MODEL

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

TOKENS = CharTokens(" abcdefgh")


def run(folder: Path, **changes: object) -> Path:
    config = ModelConfig.model_validate({**SMALL_MODEL, **changes}).with_tokens(TOKENS.vocab_size)
    model = build(config, seed=3)
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        # Biases and statistics begin as zeros and ones, where a mistake would not show.
        if "running_var" in name:
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim < 3:
            tensor.add_(0.2 * torch.randn(tensor.shape, generator=generator))
    store.save(folder / "model", model)
    TOKENS.save(folder / "model")
    return folder


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"subsampling_factor": 8, "conv_norm": "frozen_batch_norm", "scale_input": True},
        {"attention_bias": False, "conv_bias": False},
        {"left_context": 6, "right_context": 2},
        {"right_context": 0},
    ],
    ids=["layer_norm", "as_published", "no_bias", "window", "causal"],
)
def test_a_graph_gives_what_torch_gives(tmp_path: Path, changes: dict[str, object]) -> None:
    """For any lengths, a single frame too; what lies in the padding does not matter."""
    source = run(tmp_path / "run", **changes)
    export(source, tmp_path / "out", "onnx")
    found, _ = opening.load(opening.find(tmp_path / "out"))
    wanted = TorchEncoder(store.load(source / "model"), torch.device("cpu"), "fp32")
    assert found.frame_seconds == wanted.frame_seconds
    for seconds in ([2.0, 0.3, 1.17], [0.01], [0.02, 0.09]):
        features = [wanted.features(noise(length, seed)) for seed, length in enumerate(seconds)]
        num_frames = max(map(len, features)) + 5
        (a_BTV, lens_B), (b_BTV, found_B) = (
            encoder.encode(features, num_frames) for encoder in (wanted, found)
        )
        assert lens_B.tolist() == found_B.tolist()
        for row, length in enumerate(lens_B.tolist()):
            torch.testing.assert_close(b_BTV[row, :length], a_BTV[row, :length], atol=2e-4, rtol=1e-4)


def test_int8_is_near_and_smaller(tmp_path: Path) -> None:
    source = run(tmp_path / "run", hidden_size=64, ff_size=256)
    report = export(source, tmp_path / "out", "onnx", int8=True)
    assert report.files["model.int8.onnx"] < 0.6 * report.files["model.onnx"]
    exact, rounded = (
        opening.load(opening.find(tmp_path / "out"), "cpu", name)[0] for name in ("fp32", "int8")
    )
    features = [exact.features(noise(2.0, 1))]
    a_BTV, b_BTV = (encoder.encode(features, 200)[0] for encoder in (exact, rounded))
    difference = (a_BTV - b_BTV).abs()
    assert 0 < difference.mean() < 0.05 * a_BTV.std()


def test_a_recognizer_loads_what_was_exported(tmp_path: Path) -> None:
    source = run(tmp_path / "run")
    export(source, tmp_path / "out", "onnx")
    waves = [noise(1.0, 1), noise(2.5, 2)]
    texts = [[h.text for h in Recognizer.load(f).transcribe(waves)] for f in (source, tmp_path / "out")]
    assert texts[0] == texts[1] and all(texts[0])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["weights_sha256"] == store.weights_sha256(store.load(source / "model"))


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    source = run(tmp_path / "run")
    export(source, tmp_path / "out", "onnx")
    with pytest.raises(CheckpointError, match=r"int8.*no such file\n.*--int8"):
        Recognizer.load(tmp_path / "out", precision="int8")
    with pytest.raises(UsageError, match=r"hocket export .* --int8"):
        Recognizer.load(source, precision="int8")
    with pytest.raises(UsageError, match="ONNX Runtime computes on the CPU"):
        Recognizer.load(tmp_path / "out", precision="bf16")
    with pytest.raises(UsageError, match="'hf' has no int8"):
        export(source, tmp_path / "other", "hf", int8=True)
    (tmp_path / "out" / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match="cannot load"):
        Recognizer.load(tmp_path / "out")


@pytest.mark.parametrize("int8", [False, True], ids=["fp32", "int8"])
def test_sherpa_onnx_loads_the_folder_as_it_is(tmp_path: Path, int8: bool) -> None:
    """It hears slightly other features; with the same ones it must write the same tokens."""
    sherpa = pytest.importorskip("sherpa_onnx")
    source = run(tmp_path / "run")
    export(source, tmp_path / "out", "onnx", int8=int8)
    graph = tmp_path / "out" / ("model.int8.onnx" if int8 else "model.onnx")
    recognizer = sherpa.OfflineRecognizer.from_nemo_ctc(
        model=str(graph), tokens=str(tmp_path / "out" / "tokens.txt"), num_threads=1
    )
    streams = []
    for seed, seconds in enumerate((1.0, 2.2)):
        stream = recognizer.create_stream()
        stream.accept_waveform(16_000, noise(seconds, seed))
        streams.append(stream)
    recognizer.decode_streams(streams)
    for stream in streams:
        result = stream.result
        assert set(result.text) <= set(" abcdefgh") and result.text
        assert len(result.timestamps) == len(result.tokens)
        assert all(
            later > sooner for sooner, later in zip(result.timestamps, result.timestamps[1:], strict=False)
        )
