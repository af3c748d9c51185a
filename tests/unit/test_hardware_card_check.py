"""Exported models beside cards: what stands against them, and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hocket.core.errors import CheckpointError, UsageError
from hocket.corpus.tokens import CharTokens
from hocket.hardware import catalogue, graph_facts
from hocket.hardware.card_check import CardCheck, check_graph, check_torch
from hocket.hardware.graph_facts import GraphFacts
from hocket.model import ModelConfig, build, onnx_graph, store
from hocket.recognition.export import export, parse_shape
from small import SMALL_MODEL

pytest.importorskip("onnx")

MODEL = build(ModelConfig.model_validate({**SMALL_MODEL, "vocab_size": 9}), seed=1)


def facts(*, int8: bool = False, shape: tuple[int, int] | None = None) -> GraphFacts:
    return graph_facts.facts(onnx_graph.graph(MODEL, {}, int8=int8, shape=shape), "model.onnx")


def finding(check: CardCheck, topic: str) -> tuple[bool | None, str]:
    (found,) = [found for found in check.findings if found.topic == topic]
    return found.fits, found.text


def test_a_graph_is_read_as_what_it_computes() -> None:
    free, fixed, int8 = facts(), facts(shape=(2, 160)), facts(int8=True)
    assert free.free == {"audio_signal": ("batch", "time"), "length": ("batch",)}
    assert fixed.free == {}
    assert free.operators == fixed.operators
    layers = SMALL_MODEL["num_layers"]
    # Content, distance and weighted values meet; each block has one convolution over time.
    assert free.operators["MatMul:values"] == 2 * layers
    assert free.operators["Conv:1d"] == layers
    assert "Shape" not in free.operators
    assert "Range" not in free.operators  # of shapes: a compiler drops it
    assert free.num_of_shapes > 10
    assert (free.quantised, free.integer_products) == ("no", 0)
    assert int8.quantised == "dynamic"
    assert int8.integer_products == free.operators["MatMul"] - int8.operators["MatMul"]
    assert int8.weight_bytes < free.weight_bytes


def test_a_graph_of_one_shape_gives_the_numbers_of_the_free_one() -> None:
    runtime = pytest.importorskip("onnxruntime")
    inputs = {
        "audio_signal": np.random.default_rng(1).normal(size=(2, 80, 64)).astype(np.float32),
        "length": np.array([64, 50]),
    }
    one, other = (
        runtime.InferenceSession(onnx_graph.graph(MODEL, {}, shape=shape).SerializeToString()).run(
            None, inputs
        )
        for shape in (None, (2, 64))
    )
    assert all(np.allclose(left, right, atol=1e-5) for left, right in zip(one, other, strict=True))


@pytest.mark.parametrize("name", ["Alveo U250", "VCK5000", "Agilex"])
def test_an_fpga_wants_fixed_shapes_and_leaves_attention_to_the_host(name: str) -> None:
    card = catalogue.find(name)
    varying, fixed = check_graph(card, facts()), check_graph(card, facts(shape=(1, 160)))
    assert not varying.fits
    assert finding(varying, "shapes") == (
        False,
        "must be fixed, and vary here (audio_signal: batch, time; length: batch): export --fixed 1x1600",
    )
    assert finding(fixed, "shapes")[0] is True
    fits, text = finding(fixed, "operators")
    assert fits is False
    assert "MatMul of two computed matrices" in text
    assert "host's CPU" in text


def test_int8_with_moving_scales_is_not_what_compilers_take() -> None:
    fits, text = finding(check_graph(catalogue.find("Cloud AI 100"), facts(int8=True)), "precision")
    assert fits is False
    assert "give them the fp32 graph" in text
    assert finding(check_graph(catalogue.find("Cloud AI 100"), facts()), "precision")[0] is None
    assert finding(check_graph(catalogue.find("EPYC 7763"), facts(int8=True)), "precision")[0] is True
    assert finding(check_graph(catalogue.find("Bow IPU"), facts(int8=True)), "precision")[0] is False


def test_an_old_operator_set_and_a_wrong_format_are_named() -> None:
    fits, text = finding(check_graph(catalogue.find("Graphcore IPU"), facts()), "operator set")
    assert (fits, "17; its tools read up to 11" in text) == (False, True)
    fits, text = finding(check_graph(catalogue.find("Trainium2"), facts()), "format")
    assert (fits, text) == (False, "its tools read torch modules: export --format hf")
    assert check_torch(catalogue.find("Trainium2"), "out", 10**6).fits
    assert not check_torch(catalogue.find("Cloud AI 100"), "out", 10**6).fits
    assert not check_graph(catalogue.find("Cerebras"), facts()).fits


def test_a_model_larger_than_the_memory_does_not_fit() -> None:
    small = catalogue.find("GroqCard")
    assert finding(check_torch(small, "out", 10**8), "memory")[0] is True
    assert finding(check_torch(small, "out", 10**9), "memory")[0] is False


@pytest.mark.parametrize("name", ["A100", "EPYC 9654", "MI300X"])
def test_where_hocket_itself_runs_nothing_stands_against_a_graph(name: str) -> None:
    assert check_graph(catalogue.find(name), facts()).fits


def run(folder: Path) -> Path:
    tokens = CharTokens(" abc")
    config = ModelConfig.model_validate({**SMALL_MODEL, "conv_norm": "frozen_batch_norm"})
    store.save(folder / "model", build(config.with_tokens(tokens.vocab_size), seed=3))
    tokens.save(folder / "model")
    return folder


def test_an_export_is_held_against_a_card_file_by_file(tmp_path: Path) -> None:
    source = run(tmp_path / "run")
    report = export(source, tmp_path / "out", "onnx", int8=True, fixed="1x160", card="U280")
    assert [check.file for check in report.card_checks] == [
        "model.fixed.onnx",
        "model.int8.onnx",
        "model.onnx",
    ]
    assert [finding(check, "shapes")[0] for check in report.card_checks] == [True, False, False]
    (check,) = export(source, tmp_path / "hf", "hf", card="TPU v4").card_checks
    assert check.fits


def test_wrong_words_leave_nothing_behind(tmp_path: Path) -> None:
    source = run(tmp_path / "run")
    with pytest.raises(UsageError, match=r"'H1000' is not in the catalogue\n.*NVIDIA H100"):
        export(source, tmp_path / "out", "onnx", card="H1000")
    with pytest.raises(UsageError, match="holds no shapes"):
        export(source, tmp_path / "out", "hf", fixed="1x160")
    assert not (tmp_path / "out").exists()
    for text in ("160", "0x160", "1x", "1x-5", "axb"):
        with pytest.raises(UsageError, match="as in 1x1600"):
            parse_shape(text)
    (tmp_path / "bad.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match=r"bad\.onnx: not an ONNX graph"):
        graph_facts.read(tmp_path / "bad.onnx")
