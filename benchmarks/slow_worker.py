"""One worker at a quarter of its speed: how much each strategy still gets done.

The slow worker sleeps in proportion to its computing (recipe key ``debug.slow``). For each number of
workers the strategies run in turn, several times; progress is steps per second between the tenth part
of the run and its end, and what is reported is the median of the ratios to plain all-reduce of the
same round. Feature caches are filled by then, and more processes than cores share them as they do.
With --folder it goes on where it ended.

    python benchmarks/slow_worker.py --corpus CORPUS [--workers 2 4] [--rounds 3] [--steps 60] [--quick]
        [--folder FOLDER] [--page benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from tools.training_runs import SYNTHETIC, corpus_in, events_of, give, head, trained

FACTOR = 4.0
PLAIN = "all_reduce"
PLAIN_SYNC = {"name": "all_reduce"}
QUICK_STEPS = 12
NOT_RUN = 3


def strategies(workers: int) -> dict[str, dict[str, Any]]:
    """Parts of a recipe, by name."""
    known = [1.0 / FACTOR, *[1.0] * (workers - 1)]
    return {
        PLAIN: {"sync": PLAIN_SYNC},
        "all_reduce, known speeds": {"sync": PLAIN_SYNC, "workers": {"speeds": known}},
        "all_reduce, measured speeds": {"sync": PLAIN_SYNC, "workers": {"speeds": "auto"}},
        "server asynchronous": {"sync": {"name": "server", "mode": "asynchronous"}},
        "server bounded": {"sync": {"name": "server", "mode": "bounded", "max_staleness": 4}},
        "gossip": {"sync": {"name": "gossip"}},
        "hogwild": {"sync": {"name": "hogwild"}},
    }


def rate(run: Path) -> float:
    """Steps per second of a run, the first tenth left out."""
    steps = events_of(run, "step")
    first = len(steps) // 10
    return (len(steps) - 1 - first) / (float(steps[-1]["time"]) - float(steps[first]["time"]))


def rows_of(workers: int, corpus: Path, folder: Path, rounds: int, steps: int) -> list[str]:
    """The rows of a table: the strategies with so many workers, one of them slow."""
    rates: dict[str, list[float]] = {}
    shares: dict[str, float | None] = {}
    for turn in range(rounds):
        for name, changes in strategies(workers).items():
            recipe = folder / f"{name.replace(', ', ' ').replace(' ', '-')}-{workers}.json"
            settings = {
                "corpus": str(corpus),
                "seed": 1,
                "steps": steps,
                "device": "cpu",
                "model": {"preset": "tiny"},
                "batch": {"seconds": 30.0, "micro_batches_per_step": 16, "pool_steps": 8},
                "checkpoint": {"every_steps": 100_000},
                "faults": {"link_seconds": 60},
                "debug": {"slow": {0: FACTOR}},
                "tensorboard": False,
                **changes,
            }
            recipe.write_text(json.dumps(settings))
            run = trained(recipe, folder, f"{recipe.stem}-round{turn}", workers)
            rates.setdefault(name, []).append(rate(run))
            summary = json.loads((run / "summary.json").read_text())
            shares[name] = summary.get("leases", {}).get("shares", {}).get("0")
            print(f"{workers} workers, {name}: {rates[name][-1]:.2f} steps/s", file=sys.stderr, flush=True)
    rows = []
    for name, found in rates.items():
        ratios = [own / plain for own, plain in zip(found, rates[PLAIN], strict=True)]
        share = shares[name]
        rows.append(
            f"| {workers} | {name} | {statistics.median(found):.2f} | {statistics.median(ratios):.2f} "
            f"| {min(ratios):.2f} to {max(ratios):.2f} | {'' if share is None else f'{100 * share:.0f} %'} |"
        )
    return rows


def main() -> int:
    """Run what is not there yet, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help=f"a prepared corpus, or what prepare takes: {SYNTHETIC}")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--quick", action="store_true", help="whether it works, not what comes out")
    parser.add_argument("--folder", type=Path, help="where runs are kept; the same one goes on")
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    if o.corpus is None:
        print("slow_worker: it takes half an hour: name a --corpus: not run", file=sys.stderr)
        return NOT_RUN
    rounds, steps = (1, QUICK_STEPS) if o.quick else (o.rounds, o.steps)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = o.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        corpus = corpus_in(folder, o.corpus)
        for workers in o.workers:
            rows += rows_of(workers, corpus, folder, rounds, steps)
    lines = [
        *head("One worker at a quarter of its speed"),
        f"Preset tiny, 30 s of audio a step in 16 micro-batches, {steps} steps, {rounds} rounds; worker 0 "
        f"sleeps {FACTOR - 1:g} times as long as it computes. More workers than cores share them.",
        "",
        "| workers | strategy | steps/s | times plain all-reduce, median of rounds | rounds "
        "| slow worker's share |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    give(lines, o.page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
