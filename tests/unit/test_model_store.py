"""Model folders: what is saved comes back; what is torn, altered or of another model is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hocket.core.errors import CheckpointError, UsageError
from hocket.model import FastConformerCTC, ModelConfig, build, hf, store
from hocket.model.tensors import take_over

CONFIG = ModelConfig(
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    ff_size=16,
    conv_kernel_size=3,
    subsampling_channels=4,
    vocab_size=6,
)


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, FastConformerCTC]:
    model = build(CONFIG, seed=1)
    store.save(tmp_path / "model", model, {"features": {"num_mel_bins": 80}})
    return tmp_path / "model", model


def test_a_folder_gives_back_the_model_bit_for_bit(saved: tuple[Path, FastConformerCTC]) -> None:
    folder, model = saved
    loaded = store.load(folder)
    assert loaded.config == model.config and not loaded.training
    assert store.weights_sha256(loaded) == store.weights_sha256(model)
    assert store.read_config(folder)["extra"] == {"features": {"num_mel_bins": 80}}
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_the_digest_sees_one_bit_and_one_name() -> None:
    model, other = build(CONFIG, seed=1), build(CONFIG, seed=1)
    assert store.weights_sha256(model) == store.weights_sha256(other)
    with torch.no_grad():
        other.ctc_head.bias[0] = 1e-30
    assert store.weights_sha256(model) != store.weights_sha256(other)


def test_saving_again_replaces_the_model(saved: tuple[Path, FastConformerCTC]) -> None:
    folder, _ = saved
    newer = build(CONFIG, seed=2)
    store.save(folder, newer)
    assert store.weights_sha256(store.load(folder)) == store.weights_sha256(newer)


def test_a_missing_torn_or_altered_file_is_named(saved: tuple[Path, FastConformerCTC]) -> None:
    folder, _ = saved
    weights, config = folder / "model.safetensors", folder / "config.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: torn"):
        store.load(folder)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="not the weights"):
        store.load(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match="no such file"):
        store.load(folder)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: no JSON"):
        store.load(folder)
    config.write_text(json.dumps({"format": "other"}))
    with pytest.raises(CheckpointError, match="not a hocket-model"):
        store.load(folder)
    config.unlink()
    with pytest.raises(CheckpointError, match="cannot read"):
        store.load(folder)


def test_weights_of_another_model_name_the_first_tensors_that_differ() -> None:
    model = build(CONFIG, seed=1)
    before = store.weights_sha256(model)
    wider = build(ModelConfig.model_validate({**CONFIG.model_dump(), "ff_size": 20}), seed=1).state_dict()
    with pytest.raises(
        CheckpointError, match=r"linear1\.weight: \(20, 16\) in the file, \(16, 16\) in the model"
    ):
        take_over(model, wider, Path("there"))
    fewer = dict(model.state_dict())
    del fewer["ctc_head.bias"]
    fewer["unknown"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"ctc_head\.bias: missing; unknown: not in the model"):
        take_over(model, fewer, Path("there"))
    assert store.weights_sha256(model) == before


def test_layer_norm_has_no_place_in_hugging_faces_format(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="frozen_batch_norm"):
        hf.save(tmp_path / "hf", build(CONFIG, seed=1))
    assert not (tmp_path / "hf").exists()


def test_imports_refuse_what_they_would_compute_wrongly(tmp_path: Path) -> None:
    frozen = ModelConfig.model_validate({**CONFIG.model_dump(), "conv_norm": "frozen_batch_norm"})
    hf.save(tmp_path, build(frozen, seed=1))
    path = tmp_path / "config.json"
    good = json.loads(path.read_text())
    for change, message in (
        ({"model_type": "wav2vec2"}, "type 'wav2vec2'"),
        ({"pad_token_id": 0}, "must be the last"),
        ({"encoder_config": {**good["encoder_config"], "hidden_act": "gelu"}}, "hidden_act"),
        ({"encoder_config": {"hidden_size": 3}}, "lacks"),
        ({"encoder_config": {**good["encoder_config"], "num_attention_heads": 3}}, "shape"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(CheckpointError, match=message):
            hf.load(tmp_path)


def test_weights_in_parts_are_read_through_their_index(tmp_path: Path) -> None:
    frozen = ModelConfig.model_validate({**CONFIG.model_dump(), "conv_norm": "frozen_batch_norm"})
    model = build(frozen, seed=1)
    hf.save(tmp_path, model)
    tensors = load_file(tmp_path / "model.safetensors")
    names = sorted(tensors)
    weight_map = {}
    for part, chosen in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in chosen}, tmp_path / f"part-{part}.safetensors")
        weight_map |= dict.fromkeys(chosen, f"part-{part}.safetensors")
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert store.weights_sha256(hf.load(tmp_path)) == store.weights_sha256(model)
