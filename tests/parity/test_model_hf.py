"""The same numbers as Hugging Face's ParakeetForCTC: outputs, loss, gradients; folders both ways."""

from pathlib import Path

import pytest
import torch

from hocket.core.work import MicroBatch
from hocket.model import FastConformerCTC, ModelConfig, build, hf

transformers = pytest.importorskip("transformers", reason="the extra 'hf' is not installed")


def parakeet(factor: int, **changes: object) -> torch.nn.Module:
    """A small ParakeetForCTC whose every parameter and statistic is random."""
    encoder = transformers.ParakeetEncoderConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_kernel_size=5,
        subsampling_factor=factor,
        subsampling_conv_channels=8,
        **{"dropout": 0.0, "activation_dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0, **changes},
    )
    config = transformers.ParakeetCTCConfig(
        vocab_size=11, pad_token_id=10, encoder_config=encoder, ctc_loss_reduction="sum"
    )
    model = transformers.ParakeetForCTC(config).eval()
    generator = torch.Generator().manual_seed(factor)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator)
                tensor.copy_(noise.abs() + 0.5 if name.endswith("running_var") else 0.2 * noise)
            if name.endswith("norm.weight") or (".norm_" in name and name.endswith("weight")):
                tensor.add_(1.0)
    return model


def utterances(dtype: torch.dtype = torch.float32) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    lens = torch.tensor([97, 64, 121])
    features = torch.randn(3, 121, 80, generator=generator, dtype=dtype)
    features[torch.arange(121) >= lens[:, None]] = 0.0
    tokens = torch.randint(0, 10, (3, 4), generator=generator)
    return MicroBatch(0, ["a", "b", "c"], features, lens, tokens, torch.full((3,), 4))


def mask_of(batch: MicroBatch) -> torch.Tensor:
    return torch.arange(batch.features_BTF.shape[1]) < batch.feature_lens_B[:, None]


def assert_same_scores(ours: FastConformerCTC, theirs: torch.nn.Module) -> None:
    batch = utterances()
    with torch.no_grad():
        logits, lens = ours(batch.features_BTF, batch.feature_lens_B)
        expected = theirs(input_features=batch.features_BTF, attention_mask=mask_of(batch)).logits
    for row, count in enumerate(lens):
        torch.testing.assert_close(logits[row, :count], expected[row, :count], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize(
    "changes",
    [{}, {"attention_bias": False, "convolution_bias": False, "scale_input": False}],
    ids=["biases", "no biases"],
)
def test_a_published_folder_gives_the_same_scores(
    factor: int, changes: dict[str, bool], tmp_path: Path
) -> None:
    theirs = parakeet(factor, **changes)
    theirs.save_pretrained(tmp_path)
    ours = hf.load(tmp_path)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    assert_same_scores(ours, theirs)


@pytest.mark.parametrize("factor", [4, 8])
def test_a_folder_of_ours_is_taken_by_transformers(factor: int, tmp_path: Path) -> None:
    config = ModelConfig(
        hidden_size=32,
        num_heads=4,
        num_layers=2,
        ff_size=64,
        subsampling_factor=factor,
        subsampling_channels=8,
        conv_norm="frozen_batch_norm",
        vocab_size=11,
    )
    ours = build(config, seed=5).eval()
    for name, buffer in ours.named_buffers():
        if name.endswith(("mean", "var")):
            torch.nn.init.uniform_(buffer, 0.5, 2.0)
    hf.save(tmp_path, ours)
    theirs, report = transformers.ParakeetForCTC.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert_same_scores(ours, theirs.eval())
    assert hf.read_config(tmp_path).model_dump(exclude={"preset", "input_dropout"}) == config.model_dump(
        exclude={"preset", "input_dropout"}
    )


@pytest.mark.parametrize("factor", [4, 8])
def test_loss_and_all_gradients_are_the_same_in_float64(factor: int, tmp_path: Path) -> None:
    theirs = parakeet(factor).eval()
    theirs.save_pretrained(tmp_path)
    ours, theirs = hf.load(tmp_path).double(), theirs.double()
    batch = utterances(torch.float64)
    loss = ours.loss(batch)
    loss.backward()
    expected = theirs(
        input_features=batch.features_BTF, attention_mask=mask_of(batch), labels=batch.tokens_BU
    ).loss
    expected.backward()
    assert loss.dtype == torch.float64
    # transformers takes the angles of its sinusoids in float32 and its log-probabilities too.
    torch.testing.assert_close(loss, expected.double(), rtol=1e-5, atol=0)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    norm = torch.stack([g.square().sum() for g in gradients.values()]).sum().sqrt()
    for name, parameter in ours.named_parameters():
        assert float((parameter.grad - gradients[name]).norm()) < 2e-6 * float(norm), name
