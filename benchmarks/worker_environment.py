"""A train step under each allocator that is here, and with a small and a large cache of kernels, by turns.

python benchmarks/worker_environment.py [--preset tiny] [--rounds 3] [--out benchmarks/results/NAME.md]

Every step has another shape, as steps over utterances have: the padded length of its micro-batch is drawn
anew, and the number of utterances follows from the seconds of audio a micro-batch may hold.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from hocket.core.work import MicroBatch
from hocket.hardware import libraries
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, build

VOCAB_SIZE, FRAMES_PER_SECOND, MULTIPLE = 28, 100, 8
WARM_UP, STEPS = 100, 200
SMALL = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024", "LRU_CACHE_CAPACITY": "1024"}
"""Their own numbers."""


def ways() -> dict[str, dict[str, str]]:
    """Environments by name: the system's as it is, each cost removed alone, both, and what workers get."""
    large = {name: value for name, value in libraries.environment(1).items() if "CACHE" in name}
    found = {"system, 1,024 kernels": {"LD_PRELOAD": "", **SMALL}, "system": {"LD_PRELOAD": "", **large}}
    for allocator in libraries.available():
        found[allocator] = {**libraries.preloading(allocator), **large}
        twice = {"LRU_CACHE_CAPACITY": SMALL["LRU_CACHE_CAPACITY"]}
        found[f"{allocator}, products kept twice"] = {**found[allocator], **twice}
    return found


def batches(seconds: float) -> list[MicroBatch]:
    """Micro-batches of at most so many padded seconds of audio, of lengths as utterances have them."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(WARM_UP + STEPS):
        drawn = float(torch.empty(()).log_normal_(0.9, 0.5, generator=generator))
        frames = int(min(max(drawn, 0.8), seconds) * FRAMES_PER_SECOND) // MULTIPLE * MULTIPLE
        rows = max(1, int(seconds * FRAMES_PER_SECOND) // frames)
        tokens = max(1, frames // 16)
        found.append(
            MicroBatch(
                number,
                [str(row) for row in range(rows)],
                torch.randn(rows, frames, 80, generator=generator),
                torch.full((rows,), frames),
                torch.randint(0, VOCAB_SIZE - 1, (rows, tokens), generator=generator),
                torch.full((rows,), tokens),
                dropout_key=number,
            )
        )
    return found


def measure(preset: str, precision: str, seconds: float) -> tuple[float, float]:
    """Steps per second after warming up, and the most memory this process held, in MB."""
    model = build(ModelConfig.model_validate({"preset": preset, "vocab_size": VOCAB_SIZE}), seed=1).train()
    began = 0.0
    for number, batch in enumerate(batches(seconds)):
        if number == WARM_UP:
            began = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=False)
    rate = STEPS / (time.perf_counter() - began)
    return rate, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def in_a_new_process(variables: dict[str, str], options: list[str]) -> tuple[float, float]:
    """:func:`measure` in a process that is started with ``variables``."""
    command = [sys.executable, __file__, *options, "--inner"]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **variables}
    )
    rate, megabytes = done.stdout.split()
    return float(rate), float(megabytes)


def report(arguments: argparse.Namespace) -> str:
    """The result file: command, machine, versions, table."""
    options = ["--preset", arguments.preset, "--precision", arguments.precision]
    options += ["--seconds", str(arguments.seconds)]
    by_way = ways()
    rounds = []
    for turn in range(arguments.rounds):
        rounds.append({name: in_a_new_process(variables, options) for name, variables in by_way.items()})
        print(f"round {turn + 1} of {arguments.rounds}", file=sys.stderr, flush=True)
    first = next(iter(by_way))
    rows = [
        f"| {name} | {statistics.median(round[name][0] for round in rounds):.2f} "
        f"| {statistics.median(round[name][0] / round[first][0] for round in rounds):.2f} "
        f"| {statistics.median(round[name][1] for round in rounds):,.0f} |"
        for name in by_way
    ]
    return "\n".join(
        [
            f"# What a worker's libraries are told: preset {arguments.preset}, {arguments.precision}",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python benchmarks/worker_environment.py {' '.join(options)}"
            f" --rounds {arguments.rounds}`",
            f"- machine: {cpu_name()}, one thread",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}, "
            f"{' '.join(platform.libc_ver())}",
            f"- {STEPS} steps of new shapes after {WARM_UP}, at most {arguments.seconds:g} s of audio each; "
            f"medians of {arguments.rounds} rounds; ratios within a round",
            "",
            "| allocator | steps a second | ratio | most memory, MB |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Measure by turns, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="bf16")
    parser.add_argument("--seconds", type=float, default=13.5, help="Of padded audio in a micro-batch.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inner:
        torch.set_num_threads(1)
        print(*measure(arguments.preset, arguments.precision, arguments.seconds))
        return
    text = report(arguments)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
