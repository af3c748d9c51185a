"""What measuring the gradient noise scale costs a run, and how it agrees over workers.

Trains the same recipe with and without probe steps in turns, on one worker, and compares seconds for each
second of audio; then with 1, 2 and 4 workers, and compares the estimates of every probe step. With --folder
it goes on where it ended.

    python benchmarks/noise_scale.py [--recipe RECIPE] [--corpus CORPUS] [--steps 300] [--rounds 3]
        [--every 100] [--folder FOLDER] [--page benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from tools.training_runs import SYNTHETIC, corpus_in, events_of, give, head, trained

from hocket.studies.recipes import shipped

ALIKE = ("validation.every_steps=0", "checkpoint.every_steps=1000000", "tensorboard=false")
FRAMES_PER_SECOND = 100


def cost(run: Path) -> float:
    """Seconds of training for each second of speech, the first tenth of the steps left out."""
    steps = events_of(run, "step")
    steps = steps[len(steps) // 10 :]
    speech = sum(step["num_frames"] for step in steps) / FRAMES_PER_SECOND
    return float(sum(sum(step["seconds"].values()) for step in steps) / speech)


def costs(recipe: Path, folder: Path, steps: int, every: int, rounds: int, *alike: str) -> list[float]:
    """Cost with probe steps over that without, in each round; who comes first takes turns."""
    ratios = []
    for turn in range(rounds):
        found = {}
        for probes in (0, every) if turn % 2 else (every, 0):
            name, setting = f"cost-{turn}-{probes}", f"batch.probe_every={probes}"
            found[probes] = cost(trained(recipe, folder, name, 1, *alike, f"steps={steps}", setting))
        ratios.append(found[every] / found[0])
    return ratios


def over_workers(recipe: Path, folder: Path, *alike: str) -> list[str]:
    """The rows of a table: the largest difference of an estimate from that of one worker."""
    settings = (*alike, "steps=60", "batch.probe_every=10", "batch.micro_batches_per_step=4")
    told = {
        workers: events_of(trained(recipe, folder, f"workers-{workers}", workers, *settings), "noise_scale")
        for workers in (1, 2, 4)
    }
    rows = []
    for workers in (2, 4):
        worst = max(
            abs(mine[name] / one[name] - 1)
            for mine, one in zip(told[workers], told[1], strict=True)
            for name in ("noise", "signal")
        )
        rows.append(f"| {workers} | {len(told[workers])} | {100 * worst:.4f} % |")
    return rows


def main() -> None:
    """Run what is not there yet, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=shipped("an4-study"))
    parser.add_argument("--corpus", default=SYNTHETIC, help="a prepared corpus, or what prepare takes")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where runs are kept; the same one goes on")
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = o.folder or Path(temporary)
        alike = (*ALIKE, f"corpus={json.dumps(str(corpus_in(folder, o.corpus)))}")
        ratios = costs(o.recipe, folder, o.steps, o.every, o.rounds, *alike)
        rows = over_workers(o.recipe, folder, *alike)
    lines = [
        *head("The gradient noise scale: what it costs, and over workers"),
        f"Seconds of training for each second of speech, a probe every {o.every} steps over none, by round: "
        f"{', '.join(f'{each:.4f}' for each in ratios)}; median {statistics.median(ratios):.4f}.",
        "",
        "Largest difference of noise or signal of any probe step from that of one worker:",
        "",
        "| workers | probe steps | difference |",
        "|---|---|---|",
        *rows,
    ]
    give(lines, o.page)


if __name__ == "__main__":
    main()
