"""Fine-tuning as a user types it: from a Hugging Face folder and from a run, and back to transformers."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from commands import Done, Hocket, Trained
from safetensors.torch import load_file

from hocket.corpus import audio
from hocket.corpus.features import LogMel
from hocket.corpus.index import CorpusIndex
from hocket.corpus.tokens import Tokens
from hocket.model import store

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")

CONSTANT = ("*.running_mean", "*.running_var", "*.num_batches_tracked")
"""Statistics of the frozen batch norm: no parameters."""


@dataclass(frozen=True)
class Tuned:
    """A run that began with weights from elsewhere."""

    run: Path
    began_with: dict[str, torch.Tensor]
    frozen: tuple[str, ...]
    done: Done

    def weights(self) -> dict[str, torch.Tensor]:
        return load_file(self.run / "model" / "model.safetensors")

    def event(self, kind: str) -> dict[str, object]:
        lines = (self.run / "events.jsonl").read_text().splitlines()
        found = [event for line in lines if (event := json.loads(line))["event"] == kind]
        assert len(found) == 1
        return dict(found[0])


def write_parakeet(folder: Path, vocab_size: int) -> Path:
    """A small ParakeetForCTC with random weights and statistics, as transformers saves it."""
    torch.manual_seed(5)
    encoder = transformers.ParakeetEncoderConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        conv_kernel_size=9,
        subsampling_factor=4,
        subsampling_conv_channels=8,
    )
    config = transformers.ParakeetCTCConfig(
        vocab_size=vocab_size, pad_token_id=vocab_size - 1, encoder_config=encoder
    )
    model = transformers.ParakeetForCTC(config)
    for name, buffer in model.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            torch.nn.init.uniform_(buffer, 0.5, 1.5)
    model.save_pretrained(folder)
    return folder


def tune(
    hocket: Hocket, folder: Path, corpus: Path, init: str, frozen: tuple[str, ...], began_with: Path
) -> Tuned:
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        f"""\
corpus: {corpus}
steps: 6
init: {init}
freeze: {json.dumps(frozen)}
batch: {{seconds: 20, micro_batches_per_step: 2}}
optimiser: {{warmup_steps: 2, schedule: constant}}
tensorboard: false
"""
    )
    before = load_file(began_with / "model.safetensors")
    done = hocket("train", recipe, "--workers", "2", "--run", folder / "run", "--json", cwd=folder)
    assert done.status == 0, done.err
    return Tuned(folder / "run", before, frozen, done)


@pytest.fixture(scope="module")
def from_hf(hocket: Hocket, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("from-hf")
    write_parakeet(folder / "parakeet", Tokens.load(corpus).vocab_size)
    frozen = ("encoder.subsampling.*", "encoder.layers.[0-1].*")
    return tune(hocket, folder, corpus, "hf:parakeet", frozen, folder / "parakeet")


@pytest.fixture(scope="module")
def from_run(hocket: Hocket, corpus: Path, from_hf: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    folder = tmp_path_factory.mktemp("from-run")
    return tune(hocket, folder, corpus, str(from_hf.run), ("encoder.*",), from_hf.run / "model")


@pytest.fixture(params=["from_hf", "from_run"])
def tuned(request: pytest.FixtureRequest) -> Tuned:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Tuned)
    return found


def test_what_is_frozen_stays_bit_for_bit_and_all_else_moves(tuned: Tuned) -> None:
    after = tuned.weights()
    assert after.keys() == tuned.began_with.keys()
    kept = {name for name in after if any(fnmatchcase(name, p) for p in (*tuned.frozen, *CONSTANT))}
    same = {name for name, value in after.items() if torch.equal(value, tuned.began_with[name])}
    moved = after.keys() - kept
    assert kept <= same
    # Attention does not depend on the bias of its keys: where it learns, its gradient is noise.
    assert {name for name in moved & same if not name.endswith("k_proj.bias")} == set()
    assert moved >= {"ctc_head.weight", "ctc_head.bias"}
    parameters = {name for name in kept if not any(fnmatchcase(name, p) for p in CONSTANT)}
    assert tuned.event("start")["num_frozen"] == sum(after[name].numel() for name in parameters)


def test_it_says_what_it_began_with_and_what_became_of_the_head(from_hf: Tuned, from_run: Tuned) -> None:
    told = from_hf.event("init")
    assert told["source"] == f"hf:{from_hf.run.parent / 'parakeet'}"
    assert str(told["head"]).startswith("kept: as many tokens")
    assert "head: kept: as many tokens" in from_hf.done.err
    assert from_run.event("init")["head"] == "kept"


def test_written_back_it_computes_the_same_in_transformers(
    hocket: Hocket, corpus: Path, tuned: Tuned, tmp_path: Path
) -> None:
    out = tmp_path / "written"
    done = hocket("export", tuned.run, out, "--format", "hf", "--json")
    assert done.status == 0, done.err
    assert done.answer()["source_sha256"] == tuned.done.answer()["weights_sha256"]
    theirs, report = transformers.ParakeetForCTC.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    extractor = transformers.AutoFeatureExtractor.from_pretrained(out)
    assert isinstance(extractor, transformers.ParakeetFeatureExtractor)

    index = CorpusIndex.open(corpus, "train")
    spoken = [index.utterance(row) for row in range(4)]
    waveforms = [audio.read(one.audio, one.channel, one.start, one.num) for one in spoken]
    inputs = extractor(waveforms, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        expected_BTV = theirs.eval()(**inputs).logits
    ours = store.load(tuned.run / "model")
    for row, waveform in enumerate(waveforms):
        features_TF = LogMel()(waveform)
        with torch.no_grad():
            logits_BTV, lens_B = ours(features_TF[None], torch.tensor([len(features_TF)]))
        logits_TV = logits_BTV[0, : int(lens_B[0])]
        # The features of the two differ by rounding: sums of 512 terms, then a logarithm.
        torch.testing.assert_close(logits_TV, expected_BTV[row, : len(logits_TV)], rtol=1e-4, atol=1e-4)


def test_a_run_goes_on_when_the_weights_it_began_with_are_gone(
    hocket: Hocket, from_hf: Tuned, tmp_path: Path
) -> None:
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    shutil.copytree(from_hf.run, run)
    recipe.write_text((from_hf.run.parent / "recipe.yaml").read_text())  # no parakeet beside this one
    hocket("train", recipe, "--run", tmp_path / "new", cwd=tmp_path).refused(2, "hf:parakeet", "neither")
    words = ("--run", run, "--resume", "--set", "steps=8", "--json")
    done = hocket("train", recipe, *words, cwd=tmp_path)
    assert done.status == 0, done.err
    assert done.answer()["steps"] == 8


def test_a_model_that_does_not_fit_the_format_is_refused(
    hocket: Hocket, trained: Trained, tmp_path: Path
) -> None:
    run = trained.folder
    hocket("export", run, tmp_path / "out", "--format", "hf").refused(2, "conv_norm: frozen_batch_norm")
    hocket("export", run, tmp_path / "out", "--format", "ghost").refused(2, "'ghost' is not known", "hf")
    assert not (tmp_path / "out").exists()
