"""What each way of splitting a model costs at two processes, beside the same work without communication.

A step has four micro-batches. Along a data axis (``dp_replicate``, ``dp_shard``) each of two processes runs
two of them; along the others both run all four, each its share of every layer, frame or stage. The ideal
is two processes that run two micro-batches each on a whole model and never talk: the same total work.
Both take turns step by step in the same processes, the first of a pair changing; what counts is the median
of the ratios of neighbouring steps. ``--profile AXIS`` prints where the time of one axis goes instead.

    python benchmarks/layout_speed.py [--preset base] [--rounds 30] [--axes tp dp_shard] [--out FILE]
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

from hocket.comms.communicator import Alone
from hocket.comms.mesh import Mesh
from hocket.core.layout import AXES, Layout
from hocket.core.protocols import RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.hardware.device import cpu_name
from hocket.hardware.memory import keep_freed_memory
from hocket.model import ModelConfig, build
from hocket.model.presets import PRESETS
from hocket.parallel import apply
from hocket.sync.all_reduce import AllReduce

NUM_MICRO_BATCHES, NUM_UTTERANCES, NUM_FRAMES, NUM_TOKENS, VOCAB_SIZE = 4, 4, 800, 40, 1025
NUM_RANKS, WARM_UP = 2, 3
LAYOUTS = {axis: Layout(**{axis: NUM_RANKS}) for axis in AXES}  # type: ignore[arg-type]
LAYOUTS["dp_shard,reshard=step"] = Layout(dp_shard=NUM_RANKS, reshard="step")
Step = Callable[[], None]


def micro_batch(number: int) -> MicroBatch:
    """Four utterances of 8 s."""
    draw = torch.Generator().manual_seed(number)
    shape = (NUM_UTTERANCES,)
    return MicroBatch(
        number,
        [f"{number}-{row}" for row in range(NUM_UTTERANCES)],
        torch.randn(NUM_UTTERANCES, NUM_FRAMES, 80, generator=draw),
        torch.full(shape, NUM_FRAMES),
        torch.randint(0, VOCAB_SIZE - 1, (NUM_UTTERANCES, NUM_TOKENS), generator=draw),
        torch.full(shape, NUM_TOKENS),
        dropout_key=number + 1,
    )


def step_of(preset: str, layout: Layout, mesh: Mesh | None, given: list[MicroBatch]) -> Step:
    """What the trainer does of a step, without reading data and writing events."""
    model = build(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE), seed=0).train()
    replica = apply(model, layout, torch.device("cpu"), mesh=mesh)
    sync = AllReduce(mesh.along("dp_replicate") if mesh else Alone(), max_grad_norm=1.0)
    sync.attach(replica)
    optimiser = torch.optim.AdamW([e.tensor for e in replica.held if e.trained], lr=1e-4, fused=True)
    tokens = NUM_UTTERANCES * NUM_TOKENS
    empty = given[0].feature_lens_B.numpy()[:0]
    specs = tuple(
        MicroBatchSpec(r, empty, empty, NUM_FRAMES, NUM_TOKENS, NUM_FRAMES * NUM_UTTERANCES, tokens, 1.0)
        for r in range(NUM_MICRO_BATCHES)
    )

    def step() -> None:
        sync.begin_step(GlobalBatch(0, 0, specs), settle=False)
        results = replica.forward_backward(given, on_bucket=sync.on_grad_ready)
        sync.step(optimiser, RankPart(results)).result()

    return step


def steps_of(preset: str, axis: str) -> tuple[Step, Step]:
    """(ideal, split) for this rank."""
    batches = [micro_batch(number) for number in range(NUM_MICRO_BATCHES)]
    mine = batches[dist.get_rank() :: NUM_RANKS]
    layout = LAYOUTS[axis]
    given = mine if layout.num_groups > 1 else batches
    split = step_of(preset, layout, Mesh(layout, torch.device("cpu")), given)
    return step_of(preset, Layout(), None, mine), split


def rank_main(
    rank: int, store: str, preset: str, axis: str, rounds: int, profiles: bool, results: str
) -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=NUM_RANKS)
    both = steps_of(preset, axis)
    order = random.Random(0)
    times: list[tuple[float, float]] = []
    for turn in range(rounds + WARM_UP):
        first = order.randrange(2)
        seconds = [0.0, 0.0]
        for which in (first, 1 - first):
            dist.barrier()
            start = time.perf_counter()
            both[which]()
            dist.barrier()
            seconds[which] = time.perf_counter() - start
        if turn >= WARM_UP:
            times.append((seconds[0], seconds[1]))
    if rank == 0:
        torch.save(times, results)
    if profiles:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            both[1]()
        if rank == 0:
            sys.stdout.write(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=25))
    dist.destroy_process_group()


def measure(preset: str, axis: str, rounds: int, profiles: bool = False) -> list[tuple[float, float]]:
    """Seconds of (ideal, split) steps, pair by pair."""
    with tempfile.TemporaryDirectory() as folder:
        store, results = str(Path(folder, "store")), str(Path(folder, "results"))
        arguments = (store, preset, axis, rounds, profiles, results)
        mp.spawn(rank_main, arguments, nprocs=NUM_RANKS)  # type: ignore[no-untyped-call]
        found: list[tuple[float, float]] = torch.load(results)
    return found


def report(preset: str, axes: list[str], rounds: int) -> str:
    """The result file: command, machine, versions, table."""
    lines = [
        f"# What each axis costs at {NUM_RANKS} processes",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/layout_speed.py --preset {preset} --rounds {rounds} "
        f"--axes {' '.join(axes)}`",
        f"- machine: {cpu_name()}, one thread a process, gloo",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- a step: {NUM_MICRO_BATCHES} micro-batches of {NUM_UTTERANCES} utterances of "
        f"{NUM_FRAMES / 100:g} s, {VOCAB_SIZE} tokens; fp32; one AdamW step",
        "- ideal: the same total work on two whole models, without communication",
        "",
        "| axis | ideal, ms (median) | split, ms (median) | split / ideal, median of pairs | quartiles |",
        "|---|---|---|---|---|",
    ]
    for axis in axes:
        times = measure(preset, axis, rounds)
        ratios = [split / ideal for ideal, split in times]
        low, median, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        ideal, split = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
        lines.append(f"| {axis} | {ideal:.0f} | {split:.0f} | {median:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--axes", nargs="+", choices=list(LAYOUTS), default=list(LAYOUTS))
    parser.add_argument("--profile", choices=list(LAYOUTS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.profile:
        measure(options.preset, options.profile, 1, profiles=True)
        return
    text = report(options.preset, options.axes, options.rounds)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
