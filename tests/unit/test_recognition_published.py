"""Published models from local folders: Parakeet by hocket's model, wav2vec 2.0 by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hocket.core.errors import CheckpointError, RunError
from hocket.model import ModelConfig, build, hf
from hocket.recognition import opening, published
from hocket.recognition.recognizer import Recognizer
from small import SMALL_MODEL

LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"abcdefgh"]


def noise(seconds: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)


def wav2vec(folder: Path, norm: str, kind: str = "Wav2Vec2") -> Path:
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(LETTERS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16),
        conv_stride=(16, 20),
        conv_kernel=(20, 20),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    getattr(transformers, f"{kind}ForCTC")(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({piece: n for n, piece in enumerate(LETTERS)}))
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"do_normalize": True, "sampling_rate": 16_000, "return_attention_mask": norm == "layer"})
    )
    return folder


@pytest.mark.parametrize("kind, norm", [("Wav2Vec2", "layer"), ("Wav2Vec2", "group"), ("Hubert", "group")])
def test_a_model_that_hears_samples_answers_as_transformers_does(
    tmp_path: Path, kind: str, norm: str
) -> None:
    """And no answer depends on the utterances beside it."""
    transformers = pytest.importorskip("transformers")
    folder = wav2vec(tmp_path / "m", norm, kind)
    encoder, vocabulary = opening.load(opening.find(f"hf:{folder}"), "cpu")
    waves = [noise(1.0, 1), noise(0.02, 2), noise(0.43, 3)]
    log_probs_BTV, lens_B = encoder.encode([encoder.features(wave) for wave in waves], 100)
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(folder)
    model = getattr(transformers, f"{kind}ForCTC").from_pretrained(folder).eval()
    for row, wave in enumerate(waves):
        heard = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
        heard = torch.nn.functional.pad(heard, (0, max(0, 20 * 16 + 4 - heard.shape[1])))
        with torch.inference_mode():
            wanted_TV = model(heard).logits[0].log_softmax(-1)
        found_TV = log_probs_BTV[row, : lens_B[row]]
        if len(wave) > 400:
            assert len(found_TV) == len(wanted_TV)
            torch.testing.assert_close(found_TV, wanted_TV, atol=1e-3, rtol=1e-3)
    assert encoder.frame_seconds == 0.02
    assert vocabulary.text([5, 6, 4, 0, 7, 1, 3]) == "ab c"
    alone = [Recognizer.load(f"hf:{folder}", "cpu").transcribe([wave])[0].text for wave in waves]
    assert [h.text for h in Recognizer.load(f"hf:{folder}", "cpu").transcribe(waves)] == alone


def parakeet(folder: Path) -> Path:
    config = ModelConfig.model_validate({**SMALL_MODEL, "conv_norm": "frozen_batch_norm"}).with_tokens(5)
    hf.save(folder, build(config, seed=3))
    vocab = [["<unk>", 0.0], ["\u2581a", -1.0], ["b", -2.0], ["\u2581", -3.0]]
    tokenizer = {
        "model": {"type": "Unigram", "vocab": vocab},
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def test_parakeet_is_computed_by_our_own_model(tmp_path: Path) -> None:
    folder = parakeet(tmp_path / "p")
    encoder, vocabulary = opening.load(opening.find(f"hf:{folder}"), "cpu")
    wave = noise(1.3, 0)
    features_TF = encoder.features(wave)
    with torch.inference_mode():
        wanted_BTV, _ = hf.load(folder)(features_TF[None], torch.tensor([len(features_TF)]))
    found_BTV, lens_B = encoder.encode([features_TF], len(features_TF))
    torch.testing.assert_close(found_BTV, wanted_BTV.log_softmax(-1))
    assert lens_B.tolist() == [found_BTV.shape[1]]
    assert vocabulary.blank == 4 and vocabulary.text([1, 2, 0, 3, 2, 4]) == "ab b"
    bpe = json.loads((folder / "tokenizer.json").read_text())
    bpe["model"] = {"type": "BPE", "vocab": {piece: n for n, (piece, _) in enumerate(bpe["model"]["vocab"])}}
    (folder / "tokenizer.json").write_text(json.dumps(bpe))
    assert published.vocabulary(folder) == vocabulary


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no config\.json"):
        opening.find(f"hf:{tmp_path}")
    folder = parakeet(tmp_path / "p")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        opening.load(opening.find(f"hf:{folder}"), "cpu")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"vocab\.json: cannot read"):
        opening.load(opening.find(f"hf:{folder}"), "cpu")
