"""A train step with and without keeping freed memory: page faults and processor time, by turns.

python benchmarks/kept_memory.py [--preset tiny] [--rounds 5] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from hocket.core.work import MicroBatch
from hocket.hardware.device import cpu_name
from hocket.hardware.memory import keep_freed_memory
from hocket.model import ModelConfig, build

NUM_UTTERANCES, NUM_FRAMES, NUM_TOKENS, VOCAB_SIZE = 10, 272, 18, 28
STEPS = 15


def measure(preset: str) -> tuple[float, float]:
    """Median processor milliseconds of a step, and page faults a step, in this process."""
    model = build(ModelConfig.model_validate({"preset": preset, "vocab_size": VOCAB_SIZE}), seed=1).train()
    generator = torch.Generator().manual_seed(0)
    batch = MicroBatch(
        0,
        [str(row) for row in range(NUM_UTTERANCES)],
        torch.randn(NUM_UTTERANCES, NUM_FRAMES, 80, generator=generator),
        torch.full((NUM_UTTERANCES,), NUM_FRAMES),
        torch.randint(0, VOCAB_SIZE - 1, (NUM_UTTERANCES, NUM_TOKENS), generator=generator),
        torch.full((NUM_UTTERANCES,), NUM_TOKENS),
        dropout_key=1,
    )
    times: list[float] = []
    faults = 0
    for step in range(STEPS + 5):
        if step == 5:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=False)
        times.append(time.process_time() - start)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return statistics.median(times[5:]) * 1e3, faults / STEPS


def in_a_new_process(preset: str, mode: str) -> tuple[float, float]:
    """:func:`measure` in a process that keeps freed memory, or not."""
    command = [sys.executable, __file__, "--preset", preset, "--inner", mode]
    milliseconds, faults = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(milliseconds), float(faults)


def report(preset: str, rounds: int) -> str:
    """The result file: command, machine, versions, table."""
    pairs = [(in_a_new_process(preset, "leave"), in_a_new_process(preset, "keep")) for _ in range(rounds)]
    ratio = statistics.median(left[0] / kept[0] for left, kept in pairs)
    rows = [
        f"| {name} | {statistics.median(pair[turn][0] for pair in pairs):.1f} "
        f"| {statistics.median(pair[turn][1] for pair in pairs):,.0f} |"
        for turn, name in enumerate(("as glibc does it", "freed memory is kept"))
    ]
    return "\n".join(
        [
            "# Keeping freed memory",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python benchmarks/kept_memory.py --preset {preset} --rounds {rounds}`",
            f"- machine: {cpu_name()}, one thread",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}, "
            f"{' '.join(platform.libc_ver())}",
            f"- train step of preset {preset}, bf16, {NUM_UTTERANCES} utterances of {NUM_FRAMES} frames",
            "",
            "| | processor ms a step | page faults a step |",
            "|---|---|---|",
            *rows,
            "",
            f"Median of the ratios of {rounds} pairs of processes: {ratio:.2f}.",
            "",
        ]
    )


def main() -> None:
    """Measure by turns, print, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inner", choices=["leave", "keep"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.inner:
        if arguments.inner == "keep":
            keep_freed_memory()
        print(*measure(arguments.preset))
        return
    text = report(arguments.preset, arguments.rounds)
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
