"""What measuring the gradient noise scale costs a run, and how it agrees over workers.

Trains the same recipe with and without probe steps in turns, on one worker, and compares seconds for each
second of audio; then with 1, 2 and 4 workers, and compares the estimates of every probe step.

    python benchmarks/noise_scale.py RECIPE [--steps 300] [--rounds 3] [--every 100] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
import tempfile
from pathlib import Path

import torch

from hocket.core import events
from hocket.hardware.device import cpu_name
from hocket.training.launch import train

ALIKE = ("validation.every_steps=0", "checkpoint.every_steps=1000000", "tensorboard=false")


def run(recipe: Path, folder: Path, workers: int, *settings: str) -> list[events.Event]:
    """The events of a run."""
    train(recipe, run=folder, workers=workers, overrides=[*ALIKE, *settings])
    return list(events.read(folder / "events.jsonl"))


def seconds_of_speech_cost(found: list[events.Event]) -> float:
    """Seconds of training for each second of speech, the first tenth of the steps left out."""
    steps = [event for event in found if event["event"] == "step"]
    steps = steps[len(steps) // 10 :]
    return sum(sum(step["seconds"].values()) for step in steps) / sum(
        step["num_frames"] / 100 for step in steps
    )


def main() -> None:
    """Measure, print, and with ``--out`` write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--out", type=Path)
    o = parser.parse_args()
    ratios, told = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(o.rounds):
            cost = {
                every: seconds_of_speech_cost(
                    run(
                        o.recipe,
                        Path(folder, f"{turn}-{every}"),
                        1,
                        f"steps={o.steps}",
                        f"batch.probe_every={every}",
                    )
                )
                for every in ((0, o.every) if turn % 2 else (o.every, 0))
            }
            ratios.append(cost[o.every] / cost[0])
        for workers in (1, 2, 4):
            found = run(
                o.recipe, Path(folder, f"w{workers}"), workers, "steps=60", "batch.probe_every=10",
                "batch.micro_batches_per_step=4",
            )  # fmt: skip
            told[workers] = [event for event in found if event["event"] == "noise_scale"]
    rows = []
    for workers in (2, 4):
        worst = max(
            abs(mine[name] / one[name] - 1)
            for mine, one in zip(told[workers], told[1], strict=True)
            for name in ("noise", "signal")
        )
        rows.append(f"| {workers} | {len(told[workers])} | {100 * worst:.4f} % |")
    text = "\n".join(
        [
            "# The gradient noise scale: what it costs, and over workers",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python benchmarks/noise_scale.py {o.recipe} --steps {o.steps} --rounds {o.rounds}`",
            f"- machine: {cpu_name()}",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
            "",
            f"Seconds of training for each second of speech, a probe every {o.every} steps over none, by "
            "round: "
            + ", ".join(f"{each:.4f}" for each in ratios)
            + f"; median {statistics.median(ratios):.4f}.",
            "",
            "Largest difference of noise or signal of any probe step from that of one worker:",
            "",
            "| workers | probe steps | difference |",
            "|---|---|---|",
            *rows,
        ]
    )
    sys.stdout.write(text + "\n")
    if o.out:
        o.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
