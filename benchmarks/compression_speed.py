"""What compression costs a worker in computing: coding, adding up, decoding and residuals, no links.

One process, one thread, one worker, so that nothing crosses a wire: each exchange runs whole rounds on
the gradients of a model (4 MB buckets). A worker of N decodes N shards of 1/N of the size in the first
stage, which is as much work. The least of several rounds, and the gradient's bytes over it.

    python benchmarks/compression_speed.py [--preset small] [--rounds 20] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

import torch
from pydantic import TypeAdapter

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build
from hocket.model.presets import PRESETS
from hocket.parallel.buckets import make_buckets
from hocket.sync.compression import CompressionSettings

NAMES = ("none", "bf16", "fp16", "one_bit", "power_sgd", "top_k")


def seconds(name: str, preset: str, rounds: int, device: torch.device) -> tuple[float, int]:
    """Least seconds of a round, and the bytes of the gradient."""
    model = build(ModelConfig(preset=preset, vocab_size=32), seed=0).to(device)
    settings = TypeAdapter(CompressionSettings).validate_python(name)

    def work(ranks: ThreadedCommunicator) -> tuple[float, int]:
        buckets = make_buckets(model.named_parameters(), 4.0)
        exchange = settings.make(ranks, buckets)
        draw = torch.Generator(device).manual_seed(0)
        gradients = [torch.randn(len(b.flat), generator=draw, device=device) for b in buckets]
        taken_as_it_is = torch.zeros((), device=device)
        times = []
        for _ in range(rounds):
            for bucket, gradient in zip(buckets, gradients, strict=True):
                bucket.flat.copy_(gradient)
            wait(device)
            start = time.perf_counter()
            for bucket in buckets:
                exchange.start(bucket, 0.5)
            exchange.finish()
            exchange.settle(taken_as_it_is)
            wait(device)
            times.append(time.perf_counter() - start)
        return min(times), sum(4 * len(bucket.flat) for bucket in buckets)

    return run_threads(1, work)[0]


def wait(device: torch.device) -> None:
    """Until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def report(preset: str, rounds: int, device: torch.device) -> str:
    """The result file: command, machine, versions, table."""
    on = cpu_name() + ", one thread" if device.type == "cpu" else torch.cuda.get_device_name()
    lines = [
        f"# What compression costs a worker in computing, preset {preset}",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/compression_speed.py --preset {preset} --rounds {rounds}`",
        f"- machine: {on}",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
        "",
        "| compression | ms a round (least) | MB/s of gradient |",
        "|---|---|---|",
    ]
    for name in NAMES:
        least, size = seconds(name, preset, rounds, device)
        lines.append(f"| {name} | {least * 1e3:.1f} | {size / least / 1e6:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=list(PRESETS), default="small")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = report(options.preset, options.rounds, torch.device(options.device))
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
