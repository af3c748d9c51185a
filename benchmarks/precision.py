"""Precisions in training: whole steps in fp32 and bf16, and products in int8 and fp8 beside them.

A step is forward, loss, backward and optimiser of the real replica, on eight utterances of three seconds,
one thread; precisions take turns, and what counts is the median of the ratios of neighbouring steps. int8
and fp8 have no step in hocket: their products, scaling included, are measured beside bf16's at the shapes
of a step, which is the most they could bring.

    python benchmarks/precision.py [--preset tiny base] [--rounds 20] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from hocket.core.work import MicroBatch
from hocket.hardware.device import cpu_name, fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.model import ModelConfig, build, workload
from hocket.model.presets import PRESETS
from hocket.parallel.whole import WholeReplica
from hocket.training.optimiser import make_optimiser
from hocket.training.recipe import OptimiserSettings

CPU = torch.device("cpu")
NUM_UTTERANCES, NUM_FRAMES, NUM_TOKENS, VOCAB_SIZE = 8, 300, 25, 32


def utterances() -> MicroBatch:
    """Eight utterances of 2.7 to 3 s."""
    draw = torch.Generator().manual_seed(0)
    lens = torch.linspace(0.9 * NUM_FRAMES, NUM_FRAMES, NUM_UTTERANCES).long()
    features = torch.randn(NUM_UTTERANCES, NUM_FRAMES, 80, generator=draw)
    tokens = torch.randint(0, VOCAB_SIZE - 1, (NUM_UTTERANCES, NUM_TOKENS), generator=draw)
    token_lens = torch.full((NUM_UTTERANCES,), NUM_TOKENS)
    ids = [str(row) for row in range(NUM_UTTERANCES)]
    return MicroBatch(0, ids, features, lens, tokens, token_lens, dropout_key=1)


def train_step(preset: str, precision: str) -> Callable[[], None]:
    """One step of a model of its own."""
    model = build(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE), seed=0).train()
    replica = WholeReplica(model, CPU, precision=precision, bucket_mb=4.0)  # type: ignore[arg-type]
    optimiser, batch = make_optimiser(replica.held, OptimiserSettings()), utterances()

    def step() -> None:
        replica.forward_backward([batch])
        optimiser.step()

    return step


def take_turns(works: list[Callable[[], None]], rounds: int) -> list[list[float]]:
    """Seconds of each in each round, the first two left out."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(rounds + 2):
        for place, work in enumerate(works):
            start = time.perf_counter()
            work()
            if turn >= 2:
                times[place].append(time.perf_counter() - start)
    return times


def ratio(slow: list[float], fast: list[float]) -> float:
    """Median over rounds."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def steps(presets: list[str], rounds: int) -> list[str]:
    """The table of whole steps."""
    lines = ["| preset | fp32, ms | bf16, ms | fp32 over bf16 (median of pairs) |", "|---|---|---|---|"]
    for preset in presets:
        full, half = take_turns([train_step(preset, "fp32"), train_step(preset, "bf16")], rounds)
        cells = f"{min(full) * 1e3:.0f} | {min(half) * 1e3:.0f} | {ratio(full, half):.2f}"
        lines.append(f"| {preset} | {cells} |")
    return lines


def products(presets: list[str], rounds: int) -> list[str]:
    """The table of single products, int8 and fp8 with the scaling that each product needs."""
    lines = ["| preset | shape | fp32, ms | bf16 | int8 | fp8 |", "|---|---|---|---|---|---|"]
    for preset in presets:
        m, k, n = workload.typical_products(ModelConfig(preset=preset, vocab_size=VOCAB_SIZE))[0]
        x, w = torch.randn(m, k), torch.randn(k, n)
        half_x, half_w = x.bfloat16(), w.bfloat16()
        int_w = (w * 40).round().clamp(-127, 127).to(torch.int8)
        works: dict[str, Callable[[], object]] = {
            "fp32": lambda x=x, w=w: x @ w,
            "bf16": lambda x=half_x, w=half_w: x @ w,
            "int8": lambda x=half_x, w=int_w: int8(x, w),
            "fp8": lambda x=half_x, w=half_w: fp8(x, w),
        }
        cells = []
        for name, work in works.items():
            try:
                times = take_turns([lambda work=work: [work() for _ in range(10)] and None], rounds)[0]
                cells.append(f"{min(times) * 100:.2f}")
            except (RuntimeError, NotImplementedError, AttributeError) as error:
                cells.append(f"none ({name}: {str(error).splitlines()[0][:60]})")
        lines.append(f"| {preset} | {m}x{k}x{n} | {' | '.join(cells)} |")
    return lines


def int8(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Quantise what comes in by rows, multiply, scale back: what training would do three times a layer."""
    scale = x.abs().amax(1, keepdim=True).float() / 127
    return torch._int_mm((x / scale).round().to(torch.int8), w).float() * scale


def fp8(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """The same in e4m3, through torch's scaled product."""
    one = torch.ones(())
    kind = torch.float8_e4m3fn
    return torch._scaled_mm(x.to(kind), w.t().contiguous().t().to(kind), one, one, out_dtype=torch.bfloat16)


def report(presets: list[str], rounds: int) -> str:
    """The result file: command, machine, versions, tables."""
    lines = [
        "# Precisions in training, one CPU thread",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/precision.py --preset {' '.join(presets)} --rounds {rounds}`",
        f"- machine: {cpu_name()}, one thread, {torch.backends.cpu.get_cpu_capability()}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        f"- {NUM_UTTERANCES} utterances of {NUM_FRAMES} feature frames and {NUM_TOKENS} tokens; least of all "
        "rounds, ratios of neighbours",
        "",
        "## Whole steps",
        "",
        *steps(presets, rounds),
        "",
        "## Products alone, milliseconds; int8 and fp8 with the scaling of their inputs",
        "",
        *products(presets, rounds),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", nargs="+", choices=list(PRESETS), default=["tiny", "base"])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    fix_arithmetic(1)
    keep_freed_memory()
    text = report(options.preset, options.rounds)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
