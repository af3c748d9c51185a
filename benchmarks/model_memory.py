"""Memory of a rank, for each way of splitting: what stays between steps, and activations.

Each layout trains one step of AdamW in fresh processes; then, at rest, every rank counts the storage of
all tensors that are alive, and its resident size above what it was after a step of a tiny model, for which
all libraries were loaded. The activations are those that a forward pass keeps for its backward pass; beside
them the highest resident size during both passes above that at rest. Every figure is the largest of the
layout's ranks. glibc gives back at once what is freed, which a training's processes do not.

    python benchmarks/model_memory.py [--preset large] [--utterances 4] [--seconds 20] [--out FILE]
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import gc
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from hocket.comms.communicator import Alone
from hocket.comms.mesh import Mesh
from hocket.core.layout import Layout, LayoutSettings
from hocket.core.protocols import RankPart, Replica
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.hardware.device import cpu_name
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.model.presets import PRESETS
from hocket.parallel import apply
from hocket.parallel.recompute import kept_bytes
from hocket.parallel.whole import WholeReplica
from hocket.sync.all_reduce import AllReduce

LAYOUTS = ("", "dp_shard=2", "dp_shard=4", "tp=2", "tp=4", "dp_shard=2,tp=2")
RECOMPUTE = ("none", "all")
VOCAB_SIZE = 1025
MB = 1e6
Step = Callable[[MicroBatch], None]


@dataclass(frozen=True)
class Found:
    """Megabytes of one rank."""

    state: float
    """Tensors alive at rest: parameters, gradients, optimiser state."""
    resident: float
    """Resident size at rest above that after a step of a tiny model."""
    activations: float = 0.0
    """Kept by a forward pass."""
    peak: float = 0.0
    """Highest resident size of a step above that at rest."""


def micro_batch(utterances: int, seconds: float) -> MicroBatch:
    """Random features; a token for every 320 ms."""
    draw = torch.Generator().manual_seed(1)
    num_frames = int(seconds * 100)
    num_tokens = max(1, num_frames // 32)
    return MicroBatch(
        0,
        [str(row) for row in range(utterances)],
        torch.randn(utterances, num_frames, 80, generator=draw),
        torch.full((utterances,), num_frames),
        torch.randint(0, VOCAB_SIZE - 1, (utterances, num_tokens), generator=draw),
        torch.full((utterances,), num_tokens),
        dropout_key=1,
    )


def resident() -> float:
    """Megabytes of this process in memory, after handing back what is free."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / MB


def live() -> float:
    """Megabytes of storage of all tensors."""
    found: dict[int, int] = {}
    for each in gc.get_objects():
        if issubclass(type(each), torch.Tensor):
            tensor = getattr(each, "_local_tensor", each)
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return sum(found.values()) / MB


def one_step(replica: Replica, batch: MicroBatch, sync: AllReduce, optimiser: torch.optim.Optimizer) -> None:
    """Forward, backward, agree, step."""
    empty = batch.feature_lens_B.numpy()[:0]
    spec = MicroBatchSpec(0, empty, empty, 1, 1, 1, int(batch.token_lens_B.sum()), 1.0)
    sync.begin_step(GlobalBatch(0, 0, (spec,)), settle=False)
    results = replica.forward_backward([batch], on_bucket=sync.on_grad_ready)
    sync.step(optimiser, RankPart(results)).result()


def made(preset: str, layout: Layout, mesh: Mesh | None) -> tuple[FastConformerCTC, Replica, Step]:
    """A model under a layout, and what trains it by a micro-batch."""
    model = build(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE), seed=0).train()
    replica = apply(model, layout, torch.device("cpu"), mesh=mesh)
    sync = AllReduce(mesh.along("dp_replicate") if mesh else Alone(), max_grad_norm=1.0)
    sync.attach(replica)
    optimiser = torch.optim.AdamW([e.tensor for e in replica.held if e.trained], lr=1e-4, fused=True)
    return model, replica, lambda batch: one_step(replica, batch, sync, optimiser)


def rank_main(
    rank: int, world_size: int, store: str, layout: Layout, preset: str, shape: tuple[int, float], out: str
) -> None:
    torch.set_num_threads(1)
    if world_size > 1:
        dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world_size)
    mesh = Mesh(layout, torch.device("cpu")) if world_size > 1 else None
    # What a first step makes libraries load is not the model's.
    made("tiny", layout, mesh)[2](micro_batch(1, 1.0))
    batch = micro_batch(*shape)
    before, live_before = resident(), live()
    model, replica, step = made(preset, layout, mesh)
    step(batch)
    state, rest = live() - live_before, resident()
    activations = 0.0
    if isinstance(replica, WholeReplica) and replica.recomputing is not None and world_size == 1:
        kept = kept_bytes(model, lambda: model.loss(batch))
        activations = (kept + replica.recomputing.input_bytes) / MB
    Path("/proc/self/clear_refs").write_text("5")  # the peak from now on
    step(batch)
    peak = _status("VmHWM") - rest
    torch.save(asdict(Found(state, rest - before, activations, peak)), f"{out}.{rank}")
    if world_size > 1:
        dist.barrier()
        dist.destroy_process_group()


def measure(layout: Layout, preset: str, shape: tuple[int, float]) -> Found:
    """The largest figures of the layout's ranks."""
    with tempfile.TemporaryDirectory() as folder:
        out, world_size = str(Path(folder, "out")), layout.world_size
        arguments = (world_size, str(Path(folder, "store")), layout, preset, shape, out)
        # So that what is freed goes back at once, and resident is what lives.
        os.environ["MALLOC_MMAP_THRESHOLD_"] = str(128 * 1024)
        mp.spawn(rank_main, arguments, nprocs=world_size)  # type: ignore[no-untyped-call]
        ranks: list[dict[str, Any]] = [torch.load(f"{out}.{rank}") for rank in range(world_size)]
    return Found(**{name: max(found[name] for found in ranks) for name in ranks[0]})


def layout_of(text: str) -> Layout:
    """``tp=2,dp_shard=2`` without replicas."""
    degrees = dict(part.split("=") for part in text.split(",") if part)
    settings = LayoutSettings.model_validate(degrees)
    return settings.fill(settings.least_workers)


def report(preset: str, shape: tuple[int, float]) -> str:
    """The result file: command, machine, versions, tables."""
    utterances, seconds = shape
    model = build(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE), seed=0)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    del model
    lines = [
        f"# Memory of a rank: {preset}, {num_parameters / 1e6:.0f} M parameters, fp32, AdamW",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/model_memory.py --preset {preset} --utterances {utterances} "
        f"--seconds {seconds:g}`",
        f"- machine: {cpu_name()}, gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        "- the largest of a layout's ranks, in megabytes (1e6 bytes)",
        "",
        "| layout | parameters, gradients, optimiser | of one | resident, above a tiny model's | of one |",
        "|---|---|---|---|---|",
    ]
    whole: Found | None = None
    for text in LAYOUTS:
        found = measure(layout_of(text), preset, (1, 2.0))
        whole = whole or found
        lines.append(
            f"| {text or 'one process'} | {found.state:.0f} | {found.state / whole.state:.3f} | "
            f"{found.resident:.0f} | {found.resident / whole.resident:.3f} |"
        )
    lines += [
        "",
        f"Activations of {utterances} utterances of {seconds:g} s on one process:",
        "",
        "| recompute | kept by the forward pass | of none | peak of a step above rest | of none |",
        "|---|---|---|---|---|",
    ]
    none: Found | None = None
    for recompute in RECOMPUTE:
        found = measure(Layout(recompute=recompute), preset, shape)
        none = none or found
        lines.append(
            f"| {recompute} | {found.activations:.0f} | {found.activations / none.activations:.3f} | "
            f"{found.peak:.0f} | {found.peak / none.peak:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="large")
    parser.add_argument("--utterances", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = report(options.preset, (options.utterances, options.seconds))
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
