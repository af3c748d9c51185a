"""A training step with hocket's all_reduce beside a bare DistributedDataParallel loop of the same model.

Two processes, one thread each, gloo. Both loops train the same FastConformer-CTC on the same inputs with
the same fused AdamW and clip to the same norm. DDP's loop is as bare as it can be: forward, backward,
``clip_grad_norm_``, step; hocket's does all that its trainer asks of a strategy (losses and counts shared
with all ranks, skipping what is not finite, the report read one step late). They take turns step by step
within the same processes, the first of a pair changing; what counts is the median of the ratios of
neighbouring steps.

    python benchmarks/sync_overhead.py [--preset tiny small] [--rounds 60] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from hocket.comms.communicator import TorchCommunicator
from hocket.core.protocols import PendingReport, RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build
from hocket.model.presets import PRESETS
from hocket.parallel.whole import WholeReplica
from hocket.sync import AllReduceSettings, SyncContext, make_strategy

NUM_UTTERANCES, NUM_FRAMES, NUM_TOKENS, VOCAB_SIZE = 8, 300, 25, 32
MAX_GRAD_NORM, WARM_UP = 1.0, 4
Step = Callable[[], None]


class Loss(torch.nn.Module):
    """DDP wants the loss to come out of ``forward``."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: MicroBatch) -> torch.Tensor:  # noqa: D102
        loss: torch.Tensor = self.model.loss(batch)  # type: ignore[operator]
        return loss


def utterances(rank: int) -> MicroBatch:
    """Eight utterances of 2.7 to 3 s, other ones on each rank."""
    draw = torch.Generator().manual_seed(rank)
    lens = torch.linspace(0.9 * NUM_FRAMES, NUM_FRAMES, NUM_UTTERANCES).long()
    features = torch.randn(NUM_UTTERANCES, NUM_FRAMES, 80, generator=draw)
    features[torch.arange(NUM_FRAMES) >= lens[:, None]] = 0.0
    tokens = torch.randint(0, VOCAB_SIZE - 1, (NUM_UTTERANCES, NUM_TOKENS), generator=draw)
    token_lens = torch.full((NUM_UTTERANCES,), NUM_TOKENS)
    ids = [f"{rank}-{row}" for row in range(NUM_UTTERANCES)]
    return MicroBatch(rank, ids, features, lens, tokens, token_lens, dropout_key=1)


def model_of(preset: str) -> torch.nn.Module:
    return build(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE), seed=0).train()


def optimiser_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)


def ddp_step(preset: str, batch: MicroBatch, world_size: int) -> Step:
    """The bare loop. DDP means over ranks, so the loss is divided by the tokens of one rank."""
    module = DistributedDataParallel(Loss(model_of(preset)), bucket_cap_mb=4, gradient_as_bucket_view=True)
    optimiser = optimiser_of(module)

    def step() -> None:
        optimiser.zero_grad(set_to_none=False)
        loss = module(batch) / (NUM_UTTERANCES * NUM_TOKENS)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), MAX_GRAD_NORM)
        optimiser.step()
        loss.item()

    return step


def hocket_step(preset: str, batch: MicroBatch, world_size: int) -> Step:
    """What the trainer does with a strategy, without reading data and writing events."""
    model = model_of(preset)
    replica = WholeReplica(model, torch.device("cpu"), precision="fp32", bucket_mb=4.0)
    sync = make_strategy(
        AllReduceSettings(), SyncContext(TorchCommunicator(), MAX_GRAD_NORM, 10**6), exact=False
    )
    sync.attach(replica)
    optimiser = optimiser_of(model)
    empty = batch.feature_lens_B.numpy()[:0]
    tokens = NUM_UTTERANCES * NUM_TOKENS
    specs = tuple(
        MicroBatchSpec(r, empty, empty, NUM_FRAMES, NUM_TOKENS, NUM_FRAMES * NUM_UTTERANCES, tokens, 1.0)
        for r in range(world_size)
    )
    last: list[PendingReport] = []

    def step() -> None:
        sync.begin_step(GlobalBatch(0, 0, specs), settle=False)
        results = replica.forward_backward([batch], on_bucket=sync.on_grad_ready)
        last.append(sync.step(optimiser, RankPart(results)))
        if len(last) > 1:
            last.pop(0).result()

    return step


def rank_main(rank: int, world_size: int, store: str, preset: str, rounds: int, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world_size)
    batch = utterances(rank)
    loops = [make(preset, batch, world_size) for make in (ddp_step, hocket_step)]
    order = random.Random(0)
    times: list[tuple[float, float]] = []
    for turn in range(rounds + WARM_UP):
        first = order.randrange(2)
        seconds = [0.0, 0.0]
        for which in (first, 1 - first):
            dist.barrier()
            start = time.perf_counter()
            loops[which]()
            seconds[which] = time.perf_counter() - start
        if turn >= WARM_UP:
            times.append((seconds[0], seconds[1]))
    if rank == 0:
        torch.save(times, results)
    dist.destroy_process_group()


def measure(preset: str, rounds: int, workers: int) -> tuple[float, float, float, float, float]:
    """Least milliseconds of each loop, the median ratio of pairs, and its quartiles."""
    with tempfile.TemporaryDirectory() as folder:
        store, results = str(Path(folder, "store")), str(Path(folder, "results"))
        mp.spawn(rank_main, (workers, store, preset, rounds, results), nprocs=workers)  # type: ignore[no-untyped-call]
        times = torch.load(results)
    ratios = sorted(ours / bare for bare, ours in times)
    low, median, high = statistics.quantiles(ratios, n=4)
    return min(t[0] for t in times) * 1e3, min(t[1] for t in times) * 1e3, median, low, high


def report(presets: list[str], rounds: int, workers: int) -> str:
    """The result file: command, machine, versions, table."""
    lines = [
        f"# all_reduce beside a bare DistributedDataParallel loop, {workers} processes",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/sync_overhead.py --preset {' '.join(presets)} --rounds {rounds}`",
        f"- machine: {cpu_name()}, one thread a process, gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- {NUM_UTTERANCES} utterances of {NUM_FRAMES} feature frames and {NUM_TOKENS} tokens a process",
        "",
        "| preset | DDP, ms (least) | hocket, ms (least) | hocket / DDP, median of pairs | quartiles |",
        "|---|---|---|---|---|",
    ]
    for preset in presets:
        bare, ours, median, low, high = measure(preset, rounds, workers)
        lines.append(f"| {preset} | {bare:.0f} | {ours:.0f} | {median:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", choices=list(PRESETS), default=["tiny", "small"])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = report(options.preset, options.rounds, options.workers)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
