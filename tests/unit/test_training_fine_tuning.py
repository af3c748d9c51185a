"""Fine-tuning: what is taken over from a run or a Hugging Face folder, and what stays frozen."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from hocket.comms.heartbeat import Heartbeat
from hocket.comms.mesh import Mesh
from hocket.core import events
from hocket.core import recipe as recipes
from hocket.core.errors import CheckpointError, RecipeError
from hocket.core.layout import Layout
from hocket.corpus.tokens import CharTokens, Tokens
from hocket.model import FastConformerCTC, ModelConfig, build, hf, store
from hocket.parallel.buckets import make_buckets
from hocket.parallel.held import held_by
from hocket.training.assembly import assemble
from hocket.training.fine_tuning import Source, freeze
from hocket.training.folder import RunFolder
from hocket.training.launch import resolve, start
from hocket.training.optimiser import make_optimiser
from hocket.training.recipe import OptimiserSettings, TrainRecipe
from small import SMALL_MODEL

OURS, OTHERS = CharTokens(" abc"), CharTokens(" abcdefg")


def config(tokens: Tokens = OURS, **changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL_MODEL, "vocab_size": tokens.vocab_size, **changes})


def saved(folder: Path, model: FastConformerCTC, tokens: Tokens | None = OURS) -> Path:
    store.save(folder / "model", model)
    if tokens is not None:
        tokens.save(folder / "model")
    return folder


def find(init: Path | str) -> Source:
    return Source.find(str(init), [Path.cwd()])


def differing(one: FastConformerCTC, other: FastConformerCTC) -> set[str]:
    theirs = other.state_dict()
    return {name for name, value in one.state_dict().items() if not torch.equal(value, theirs[name])}


def test_a_run_of_the_same_vocabulary_gives_all_its_weights(tmp_path: Path) -> None:
    trained = build(config(), seed=1)
    model = build(config(dropout=0.25), seed=2)
    told = find(saved(tmp_path, trained)).take_over(model, OURS)
    assert differing(model, trained) == set()
    assert told["head"] == "kept"
    assert told["source_sha256"] == store.weights_sha256(trained)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        (OTHERS, "has 5 tokens, the weights are for 9"),
        (CharTokens(" xyz"), r"as many tokens \(5\), but others"),
    ],
)
def test_another_vocabulary_gets_a_new_head_also_when_it_is_as_large(
    tmp_path: Path, theirs: Tokens, why: str
) -> None:
    trained, fresh = build(config(theirs), seed=1), build(config(), seed=2)
    model = build(config(), seed=2)
    told = find(saved(tmp_path, trained, theirs)).take_over(model, OURS)
    assert re.match(f"new: .*{why}", told["head"])
    assert torch.equal(model.ctc_head.weight, fresh.ctc_head.weight)
    heads = {"ctc_head.weight", "ctc_head.bias"}
    body = {name: value for name, value in trained.state_dict().items() if name not in heads}
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in body.items())


def test_hugging_face_folders_are_taken_over_with_their_statistics(tmp_path: Path) -> None:
    frozen = config(OTHERS, conv_norm="frozen_batch_norm")
    trained = build(frozen, seed=1)
    for name, buffer in trained.named_buffers():
        if name.endswith("running_mean"):
            buffer.fill_(0.5)
    hf.save(tmp_path, trained)
    source = find(f"hf:{tmp_path}")
    same = build(source.config(), seed=2)
    assert source.take_over(same, OTHERS)["head"].startswith("kept: as many tokens (9)")
    assert differing(same, trained) == set()
    other, fresh = (build(source.config().with_tokens(OURS.vocab_size), seed=2) for _ in range(2))
    assert source.take_over(other, OURS)["head"].startswith("new")
    assert {"ctc_head.weight", "ctc_head.bias"}.isdisjoint(differing(other, fresh))
    assert any(name.startswith("encoder.layers.1.") for name in differing(other, fresh))


def test_weights_of_another_model_are_refused_by_what_differs(tmp_path: Path) -> None:
    source = find(saved(tmp_path, build(config(), seed=1)))
    model = build(config(num_heads=4, scale_input=True), seed=2)  # no tensor would have another shape
    before = store.weights_sha256(model)
    with pytest.raises(CheckpointError, match=r"num_heads is 2 there and 4 here; scale_input is False"):
        source.take_over(model, OURS)
    assert store.weights_sha256(model) == before


def test_frozen_parameters_have_no_bucket_and_no_optimiser_state() -> None:
    model = build(config(), seed=1)
    num_frozen = freeze(model, ["encoder.subsampling.*", "encoder.layers.0.*"])
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {
        name
        for name, _ in model.named_parameters()
        if name.startswith(("encoder.subsampling.", "encoder.layers.0."))
    }
    assert num_frozen == sum(p.numel() for n, p in model.named_parameters() if n in frozen)
    in_buckets = {name for bucket in make_buckets(model.named_parameters(), 4.0) for name in bucket.names}
    assert in_buckets.isdisjoint(frozen) and in_buckets
    groups = make_optimiser(held_by(model), OptimiserSettings()).param_groups
    assert sum(len(group["params"]) for group in groups) == len(in_buckets)


def test_a_pattern_that_freezes_nothing_or_everything_is_an_error() -> None:
    with pytest.raises(RecipeError, match=r"'encoder\.layer\.\*'.*\n.*encoder\.layers\.\*"):
        freeze(build(config(), seed=1), ["ctc_head.*", "encoder.layer.*"])
    with pytest.raises(RecipeError, match="nothing to train"):
        freeze(build(config(), seed=1), ["*"])


def test_a_recipe_finds_the_weights_and_takes_their_shape(
    write_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    saved(tmp_path / "runs" / "a", build(config(num_layers=1), seed=1))
    stated = resolve(write_recipe(init="runs/a"), [])
    assert stated.model.num_layers == 2
    path = write_recipe(init="runs/a")
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not in_model(line)))
    settled = resolve(path, [])
    assert settled.model.num_layers == 1
    assert settled.init == str(tmp_path / "runs" / "a" / "model")
    copy = tmp_path / "resolved.yaml"
    copy.write_text(recipes.dump(settled))
    assert resolve(copy, []) == settled
    with pytest.raises(RecipeError, match="runs/b: neither"):
        resolve(write_recipe(init="runs/b"), [])


def in_model(line: str) -> bool:
    return line.startswith("model:") or line.strip().split(":")[0] in SMALL_MODEL


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_a_run_begins_with_the_weights_says_so_and_leaves_the_frozen_ones(
    write_recipe: Callable[..., Path], tmp_path: Path, corpus: Path
) -> None:
    tokens = Tokens.load(corpus)
    trained = build(config(tokens, num_mel_bins=80), seed=9)
    saved(tmp_path / "a", trained, tokens)
    path = write_recipe(init="a", freeze=["encoder.*"], steps=2, checkpoint={"every_steps": 2})
    settled, folder = resolve(path, []), RunFolder(tmp_path / "run")
    start(folder, settled, resume=False)
    device = torch.device("cpu")
    heartbeat = Heartbeat(folder.heartbeats, 0, 60.0)
    try:
        mesh = Mesh(Layout(), device)
        trainer = assemble(settled, folder, mesh, device, heartbeat, resume=False)
        assert isinstance(trainer.replica.model, FastConformerCTC)
        assert differing(trainer.replica.model, trained) == set()
        trainer.run()
        assert differing(trainer.replica.model, trained) == {"ctc_head.weight", "ctc_head.bias"}
        shutil.rmtree(tmp_path / "a")  # it is not needed any more
        with pytest.raises(RecipeError, match="a: neither"):
            resolve(path, [])
        assert resolve(path, [], folder) == settled
        resumed = assemble(settled, folder, mesh, device, heartbeat, resume=True)
        assert differing(resumed.replica.model, trainer.replica.model) == set()
    finally:
        heartbeat.close()
    told = [event for event in events.read(folder.events) if event["event"] == "init"]
    assert [(event["head"], event["source"]) for event in told] == [("kept", str(tmp_path / "a" / "model"))]
    starts = [event for event in events.read(folder.events) if event["event"] == "start"]
    assert starts[0]["num_frozen"] == sum(p.numel() for p in trained.encoder.parameters())
    assert recipes.load(folder.recipe, TrainRecipe).freeze == ("encoder.*",)
