"""On a GPU: the same masks, nearly the same losses, and a run from the command line."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.layout import Layout
from hocket.core.work import MicroBatch
from hocket.hardware.probing import ProbeSettings, default_workers, probe
from hocket.model import ModelConfig, build
from hocket.model.dropout import DropoutMasks, Site
from hocket.parallel import apply
from hocket.parallel.buckets import make_buckets
from hocket.parallel.precision import Precision
from hocket.sync.compression import CompressionSettings
from jobs import train
from small import SMALL_MODEL, small_recipe

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no usable GPU"),
]


def micro_batch() -> MicroBatch:
    draw = torch.Generator().manual_seed(1)
    return MicroBatch(
        index=0,
        ids=["a", "b", "c"],
        features_BTF=torch.randn(3, 120, 80, generator=draw),
        feature_lens_B=torch.tensor([120, 100, 77]),
        tokens_BU=torch.randint(0, 20, (3, 9), generator=draw),
        token_lens_B=torch.tensor([9, 7, 5]),
        dropout_key=11,
    )


def test_dropout_masks_are_those_of_the_cpu() -> None:
    site = Site("layers.0.conv", 0.1)
    masks = [DropoutMasks(5, 3, 40, device).keep(site, 32).cpu() for device in ("cpu", "cuda")]
    assert torch.equal(*masks)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 5e-2)])
def test_losses_and_gradients_are_near_those_of_the_cpu(precision: Precision, tolerance: float) -> None:
    config = ModelConfig.model_validate(SMALL_MODEL).with_tokens(21)
    found = []
    for device, used in (("cpu", "fp32"), ("cuda", precision)):
        replica = apply(build(config, 1), Layout(), torch.device(device), precision=used)  # type: ignore[arg-type]
        loss = replica.forward_backward([micro_batch()])[0].loss
        found.append((float(loss), torch.cat([bucket.flat for bucket in replica.buckets]).cpu()))
    (loss_cpu, grad_cpu), (loss_gpu, grad_gpu) = found
    assert loss_gpu == pytest.approx(loss_cpu, rel=tolerance)
    assert float((grad_gpu - grad_cpu).norm() / grad_cpu.norm()) < 10 * tolerance


def test_recomputed_blocks_have_the_same_gradients() -> None:
    config = ModelConfig.model_validate(SMALL_MODEL).with_tokens(21)
    found = []
    for recompute in ("none", "all"):
        replica = apply(build(config, 1), Layout(recompute=recompute), torch.device("cuda"), precision="bf16")
        loss = replica.forward_backward([micro_batch()])[0].loss
        found.append((float(loss), torch.cat([bucket.flat for bucket in replica.buckets])))
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-3, atol=1e-5)


def test_a_run_over_nccl(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, device="cuda", precision="bf16")))
    assert train(recipe, tmp_path / "run", workers=1)["steps"] == 16


@pytest.mark.parametrize("name", ["none", "bf16", "fp16", "one_bit", "power_sgd", "top_k"])
def test_compression_is_that_of_the_cpu_and_never_waits_for_the_device(name: str) -> None:
    settings = TypeAdapter(CompressionSettings).validate_python(name)

    def agreed(device: str) -> torch.Tensor:
        def work(ranks: ThreadedCommunicator) -> torch.Tensor:
            draw = torch.Generator().manual_seed(1)
            weights = [torch.randn(s, generator=draw).to(device) for s in ((90, 70), (70,), (40, 33))]
            buckets = make_buckets([(str(n), torch.nn.Parameter(w)) for n, w in enumerate(weights)], 0.02)
            exchange = settings.make(ranks, buckets)
            for bucket in buckets:
                for weight, (_, view) in zip(bucket.parameters, bucket.views(bucket.flat), strict=True):
                    view.copy_(weight.detach())
            taken = torch.zeros((), device=device)
            torch.cuda.set_sync_debug_mode("error")
            try:
                for _ in range(2):
                    for bucket in buckets:
                        exchange.start(bucket, 0.5)
                    unit = exchange.finish()
                    exchange.settle(taken)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            return torch.cat([bucket.flat * unit for bucket in buckets]).cpu()

        return run_threads(1, work)[0]

    ours, theirs = agreed("cuda"), agreed("cpu")
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-3


def test_a_probe_measures_gpus(tmp_path: Path) -> None:
    workers = default_workers()
    found = probe(ProbeSettings(workers, tmp_path, seconds=5.0))
    gpu = found.device
    assert (gpu.kind, found.workers) == ("gpu", torch.cuda.device_count())
    assert {rate.dtype for rate in gpu.products} == {"fp32", "tf32", "bf16", "fp16"}
    assert gpu.memory_bandwidth is not None
    assert gpu.memory_bandwidth.median > found.memory.bandwidth_one.median
    assert all(each.backend == "nccl" for each in found.collectives)
