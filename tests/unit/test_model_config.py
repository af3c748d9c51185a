"""Presets, overrides, and what the tables say about the model."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.utils.flop_counter import FlopCounterMode

from hocket.core.errors import UsageError
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.model.cut_points import pieces
from hocket.model.presets import PRESETS
from hocket.model.sharding import degrees, split_of, table
from hocket.model.workload import cost, parts, step_flops

MILLIONS = {
    "tiny": 1.6,
    "small": 3.3,
    "base": 11.2,
    "medium": 29.6,
    "large": 109.3,
    "xlarge": 608.8,
    "xxlarge": 1062.5,
}


def skeleton(preset: str, vocab_size: int = 1025) -> FastConformerCTC:
    with torch.device("meta"):
        return FastConformerCTC(ModelConfig(preset=preset, vocab_size=vocab_size))


@pytest.mark.parametrize("preset", PRESETS)
def test_parameter_counts_are_those_documented_and_those_the_workload_counts(preset: str) -> None:
    model = skeleton(preset)
    count = sum(p.numel() for p in model.parameters())
    assert round(count / 1e6, 1) == MILLIONS[preset]
    assert sum(part.num_parameters for part in parts(model.config)) == count


def test_overrides_lie_over_the_preset() -> None:
    config = ModelConfig(preset="small", num_layers=3, vocab_size=40)
    assert (config.num_layers, config.hidden_size) == (3, PRESETS["small"]["hidden_size"])
    assert ModelConfig.model_validate(config.model_dump()) == config
    assert config.with_tokens(7).vocab_size == 7
    assert config.with_tokens(7).blank == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "tinny"}, "no preset 'tinny'"),
        ({"num_heads": 3}, "not a multiple of num_heads"),
        ({"conv_kernel_size": 8}, "has no middle"),
        ({"num_mel_bins": 82}, "subsampling_factor"),
        ({"vocab_size": 1}, "blank alone"),
        ({"subsampling_factor": 2}, "4 or 8"),
        ({"dropout": 1.0}, "less than"),
        ({"hiden_size": 3}, "Extra inputs"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate(changes)


def test_a_model_without_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="vocab_size"):
        build(ModelConfig(), seed=0)


@pytest.mark.parametrize("factor", [4, 8])
def test_subsampled_is_the_length_that_comes_out(factor: int) -> None:
    config = ModelConfig(subsampling_factor=factor, vocab_size=5, num_layers=1)
    model = build(config, 0).eval()
    lens = torch.arange(1, 34)
    with torch.no_grad():
        logits, out = model(torch.randn(len(lens), 33, 80), lens)
    assert out.tolist() == [config.subsampled(int(n)) for n in lens]
    assert config.subsampled(lens.numpy()).tolist() == out.tolist()
    assert logits.shape[1] == config.subsampled(33)


@pytest.mark.parametrize("preset", ["tiny", "xxlarge"])
def test_flops_are_those_that_torch_counts(preset: str) -> None:
    """Forward, a third of a train step: torch miscounts the backward pass of depthwise convolutions."""
    config = ModelConfig(preset=preset, num_layers=1, vocab_size=50)
    batch, frames = 2, 160
    model = FastConformerCTC(config)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.randn(batch, frames, 80), torch.tensor([frames] * batch))
    distances = 2 * config.subsampled(frames) - 1
    counted = counter.get_total_flops() - 2 * distances * config.hidden_size**2  # once per micro-batch
    table = sum(part.flops(batch, frames) for part in parts(config)) / 3
    assert table == pytest.approx(counted, rel=0.02)  # it does not know the in-place ``baddbmm_``


def test_frozen_parts_cost_less_and_those_below_what_learns_only_their_forward_pass() -> None:
    config = ModelConfig(num_layers=2, vocab_size=50)
    names = [name for name, _ in FastConformerCTC(config).named_parameters()]
    whole = step_flops(config, names)(2, 160)
    by_part = {part.name: part.flops(2, 160) for part in parts(config)}
    assert whole == pytest.approx(sum(by_part.values()))
    head_alone = step_flops(config, ["ctc_head.weight"])(2, 160)
    assert head_alone == pytest.approx((whole + 2 * by_part["ctc_head"]) / 3)
    views = ModelConfig(num_layers=2, vocab_size=50, intermediate_ctc=[1], consistency=0.2)
    assert step_flops(views, names)(2, 160) == pytest.approx(2 * (whole + by_part["ctc_head"]))
    # What is frozen above the first block that learns still hands gradients down.
    lowest = [name for name in names if name.startswith("encoder.subsampling.")]
    handed_down = step_flops(config, lowest)(2, 160)
    assert handed_down == pytest.approx((2 * whole + by_part["encoder.subsampling"]) / 3)


def test_cost_is_a_function_of_the_configuration_and_grows_as_work_does() -> None:
    config = ModelConfig(vocab_size=30)
    model = cost(config)
    assert model == cost(ModelConfig(vocab_size=30))
    assert min(model.as_dict().values()) >= 0
    small, longer = model.micro_batch(1, 100, 5), model.micro_batch(1, np.array([200, 400]), 5)
    assert small < longer[0] < longer[1]
    assert cost(ModelConfig(preset="large", vocab_size=30)).b > 10 * model.b


def test_cut_points_are_the_modules_in_order_with_shares_of_the_whole() -> None:
    model = skeleton("tiny")
    found = pieces(model.config, num_frames=500)
    assert [p.name for p in found] == [
        "encoder.subsampling",
        *(f"encoder.layers.{i}" for i in range(5)),
        "ctc_head",
    ]
    assert sum(p.cost for p in found) == pytest.approx(1.0)
    assert len({round(p.cost, 12) for p in found[1:-1]}) == 1
    for piece in found:
        model.get_submodule(piece.name)


@pytest.mark.parametrize("norm", ["layer_norm", "frozen_batch_norm"])
def test_every_parameter_has_a_split_that_fits_its_shape(norm: str) -> None:
    config = ModelConfig(vocab_size=30, conv_norm=norm, num_layers=1)
    rows = table(config)
    kinds = {}
    for name, parameter in FastConformerCTC(config).named_parameters():
        split = split_of(name, rows)
        kinds[name] = split.kind
        for degree in degrees(config):
            if split.dim is not None and split.kind != "token":
                parts = degree * (2 if split.kind == "gated_channel" else 1)
                size = parameter.shape[split.dim]
                unit = config.head_dim if split.kind == "head" and "bias_" not in name[-6:] else 1
                assert size % (parts * unit) == 0, name
    assert kinds["encoder.layers.0.conv.depthwise_conv.weight"] == "channel"
    assert kinds["encoder.layers.0.conv.norm.weight"] == "channel"
    assert kinds["ctc_head.weight"] == "token"
    assert kinds["encoder.layers.0.feed_forward2.linear2.bias"] == "replicated"
    assert kinds["encoder.subsampling.linear.weight"] == "replicated"
