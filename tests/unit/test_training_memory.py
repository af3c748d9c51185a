"""Micro-batches in pieces: the same gradient; what a limit does, and what is said when nothing helps."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from hocket.comms.communicator import Alone, ThreadedCommunicator, run_threads
from hocket.core.errors import RunError, UsageError
from hocket.core.protocols import OutOfMemory
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.hardware.memory import MemoryLimit, give_back_memory, is_out_of_memory
from hocket.model import ModelConfig, build, workload
from hocket.parallel.whole import WholeReplica
from hocket.training.memory import MemoryGuard
from hocket.training.recipe import MemorySettings, TrainRecipe
from processes import run_processes
from small import SMALL_MODEL

CPU = torch.device("cpu")


def config(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({**SMALL_MODEL, **changes}).with_tokens(20, 80)


def micro_batch(num: int, num_frames: int, views: int = 1, dtype: torch.dtype = torch.float32) -> MicroBatch:
    draw = torch.Generator().manual_seed(num)
    lens = torch.linspace(0.6 * num_frames, num_frames, num).long()
    features = torch.randn(views * num, num_frames, 80, generator=draw, dtype=dtype)
    tokens = torch.randint(0, 19, (num, 6), generator=draw)
    token_lens = torch.full((num,), 6)
    ids = [f"u{row}" for row in range(num)]
    return MicroBatch(0, ids, features, lens, tokens, token_lens, dropout_key=77, num_views=views)


def guard(ranks: Any = None, **settings: Any) -> MemoryGuard:
    given = MemorySettings.model_validate(settings)
    size = workload.activations(config())
    return MemoryGuard(given, ranks or Alone(), size, device=CPU, can_repeat=True)


def gradient(replica: WholeReplica, batches: list[MicroBatch]) -> tuple[float, torch.Tensor]:
    results = replica.forward_backward(batches)
    total = sum(float(result.loss) for result in results)
    return total, torch.cat([bucket.flat.clone() for bucket in replica.buckets])


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("num_pieces", [2, 3, 7])
def test_pieces_have_the_gradient_of_the_whole(views: int, num_pieces: int) -> None:
    """With dropout on, and with two views whose rows a piece has to find."""
    model = build(config(dropout=0.2, consistency=0.2 if views == 2 else 0), seed=1).double()
    replica = WholeReplica(model, CPU, precision="fp32", bucket_mb=1.0)
    whole = micro_batch(7, 64, views, torch.float64)
    loss, expected = gradient(replica, [whole])
    pieces = whole.pieces(num_pieces)
    assert sum(len(piece.ids) for piece in pieces) == 7
    assert {piece.features_BTF.shape[1] for piece in pieces} == {64}
    again, found = gradient(replica, [nested for piece in pieces for nested in piece.pieces(2)])
    assert again == pytest.approx(loss, rel=1e-12)
    assert float((found - expected).norm() / expected.norm()) < 1e-12


def under_a_limit() -> tuple[int, int, float, float, float]:
    """Attempts that failed, pieces in the end, MiB left below the limit, differences of loss and gradient."""
    model = build(config(hidden_size=64, dropout=0.1), seed=1)
    replica = WholeReplica(model, CPU, precision="fp32", bucket_mb=1.0)
    whole = micro_batch(16, 800)
    gradient(replica, [micro_batch(1, 800)])  # what libraries take for themselves, once
    give_back_memory(CPU)
    limit_mb = int(MemoryLimit(1).held_mb()) + 30
    memory = guard(limit_mb=limit_mb)
    attempts = 0
    while True:
        pieces = memory.cut([whole])
        try:
            with memory.computing():
                again, found = gradient(replica, pieces)
            break
        except OutOfMemory as error:
            memory.note(pieces[error.position])
            attempts += 1
    assert memory.peak_mb is not None
    loss, expected = gradient(replica, [whole])  # the limit is gone
    difference = float((found - expected).norm() / expected.norm())
    return attempts, len(pieces), limit_mb - memory.peak_mb, abs(again / loss - 1), difference


def test_a_limit_is_held_to_and_pieces_fit_under_it() -> None:
    """In a process of its own: the limit is on what a whole process holds, and here other tests hold some."""
    [(attempts, num_pieces, left_mb, of_loss, of_gradient)] = run_processes(1, under_a_limit)
    assert attempts > 0 and num_pieces > 1
    assert left_mb >= 0
    assert of_loss < 1e-6
    assert of_gradient < 1e-5


def passed_by(operations_mb: list[int]) -> float:
    """MiB by which operations that each take so much pass a limit of 100 MiB."""
    limit = MemoryLimit(int(MemoryLimit(1).held_mb()) + 100)
    one, kept = torch.ones(1, requires_grad=True), []
    with suppress(torch.OutOfMemoryError), limit.watching():
        for size_mb in operations_mb:
            kept.append(one.expand(size_mb << 18).exp())
    return limit.peak_mb - limit.limit_mb


def test_a_limit_is_passed_by_no_more_than_an_operation_takes_beyond_those_before() -> None:
    [alike] = run_processes(1, passed_by, [18] * 10)
    assert -30 < alike < 0  # the fifth leaves 10, and one takes 18
    [larger] = run_processes(1, passed_by, [20, 20, 90])
    assert 0 < larger <= 70


def held_after_each_pass() -> list[float]:
    replica = WholeReplica(build(config(dropout=0.1), seed=1), CPU, precision="fp32", bucket_mb=1.0)
    batch, memory = micro_batch(8, 300), guard(limit_mb=1 << 20)
    held = []
    for _ in range(6):
        with memory.computing():
            gradient(replica, [batch])
        held.append(MemoryLimit(1).held_mb())
    return held


def test_watching_keeps_nothing() -> None:
    [held] = run_processes(1, held_after_each_pass)
    assert held[-1] - held[1] < 4  # one pass takes some 40


def test_what_counts_as_out_of_memory() -> None:
    for make in (lambda: torch.empty(2**44), lambda: np.ones(2**44)):
        with pytest.raises((RuntimeError, MemoryError)) as caught:
            make()
        assert is_out_of_memory(caught.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))


def test_an_abandoned_backward_pass_leaves_nothing_behind() -> None:
    model = build(config(), seed=1)
    replica = WholeReplica(model, CPU, precision="fp32", bucket_mb=0.01)
    batches = [micro_batch(2, 40), micro_batch(3, 48)]
    expected = gradient(replica, batches)
    handed: list[int] = []

    def fail(bucket: Any) -> None:
        handed.append(bucket.index)
        raise torch.OutOfMemoryError("forced")

    with pytest.raises(OutOfMemory) as caught:
        replica.forward_backward(batches, on_bucket=fail)
    assert caught.value.position == 1
    assert handed == [0]
    loss, found = gradient(replica, batches)
    assert loss == expected[0]
    assert torch.equal(found, expected[1])


def test_ranks_agree_on_what_did_not_fit() -> None:
    rows = np.arange(8)
    specs = [MicroBatchSpec(index, rows, rows, 100 + index, 5, 800, 40, 1.0) for index in range(3)]
    batch = GlobalBatch(0, 4, tuple(specs))

    def work(ranks: ThreadedCommunicator) -> tuple[Any, list[int]]:
        memory = guard(ranks)
        failed = micro_batch(8, 101) if ranks.rank == 1 else None
        if failed is not None:
            failed.index = 1
        found = memory.agree(batch, failed)
        return found, [memory.num_pieces(8, spec.num_frames) for spec in specs]

    for found, pieces in run_threads(3, work):
        assert found == [{"rank": 1, "utterances": 8, "frames": 101}]
        assert pieces == [1, 2, 2]


def test_an_utterance_that_does_not_fit_alone_is_tried_once_more_and_then_named() -> None:
    rows = np.arange(1)
    batch = GlobalBatch(0, 4, (MicroBatchSpec(0, rows, rows, 2000, 5, 2000, 5, 1.0),))
    memory = guard()
    memory.agree(batch, micro_batch(1, 2000))
    assert memory.num_pieces(1, 2000) == 1
    with pytest.raises(RunError, match="padded to 20 s"):
        memory.agree(batch, micro_batch(1, 2000))


def test_less_than_what_is_held_is_refused() -> None:
    with pytest.raises(UsageError, match=r"limit_mb: 64: a worker holds"), guard(limit_mb=64).computing():
        pass


def test_a_limit_of_the_host_is_none_of_a_gpu() -> None:
    given, size = MemorySettings(limit_mb=900), workload.activations(config())
    with pytest.raises(UsageError, match="computes on cuda"):
        MemoryGuard(given, Alone(), size, device=torch.device("cuda"), can_repeat=True)


def test_what_a_layout_has_no_part_in_is_said() -> None:
    given = {"corpus": "none", "steps": 4, "batch": {"probe_every": 50}}
    assert TrainRecipe.model_validate(given).can_repeat
    split = TrainRecipe.model_validate({**given, "layout": "pp=2"})
    assert not split.can_repeat
    assert split.no_noise_scale is None
    with pytest.raises(ValidationError, match="under layout pp=2 no step is taken again"):
        TrainRecipe.model_validate({**given, "layout": "pp=2", "memory": {"when_full": "split"}})
    sharded = {**given, "layout": "dp_shard=2"}
    assert TrainRecipe.model_validate(sharded).no_noise_scale is None
    for changes in ({"layout": "dp_shard=8"}, {"numerics": {"exact": True}}):
        recipe = TrainRecipe.model_validate({**sharded, **changes})
        assert "dp_shard" in (recipe.no_noise_scale or "")


def test_probe_steps_are_asked_for_and_the_same_under_every_strategy() -> None:
    given = {"corpus": "none", "steps": 4}
    assert TrainRecipe.model_validate(given).no_noise_scale == "not measured: batch.probe_every is 0"
    given["batch"] = {"probe_every": 50}
    averaging = TrainRecipe.model_validate({**given, "sync": "local_sgd"})
    assert averaging.batch == TrainRecipe.model_validate(given).batch
    assert (averaging.no_noise_scale or "").startswith("unsupported: only sync.name all_reduce")
    with pytest.raises(ValidationError, match=r"batch\.probe_every: with sync.name gossip"):
        TrainRecipe.model_validate({**given, "sync": "gossip"})
