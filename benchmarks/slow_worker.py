"""One worker at a quarter of its speed: how much each strategy still gets done.

The slow worker sleeps in proportion to its computing (recipe key ``debug.slow``). For each number of
workers the strategies run in turn, several times; progress is steps per second between the tenth part
of the run and its end, and what is reported is the median of the ratios to plain all-reduce of the
same round. Feature caches are filled by then, and more processes than cores share them as they do.

    python benchmarks/slow_worker.py CORPUS [--workers 2 4] [--rounds 3] [--steps 60] [--out results.json]

CORPUS is a prepared corpus (hocket prepare synthetic:utterances=400 CORPUS).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hocket.core import events

FACTOR = 4.0
ALL_REDUCE = {"name": "all_reduce"}


def strategies(workers: int) -> dict[str, dict[str, Any]]:
    known = [1.0 / FACTOR, *[1.0] * (workers - 1)]
    return {
        "all_reduce": {"sync": ALL_REDUCE},
        "all_reduce, known speeds": {"sync": ALL_REDUCE, "workers": {"speeds": known}},
        "all_reduce, measured speeds": {"sync": ALL_REDUCE, "workers": {"speeds": "auto"}},
        "server asynchronous": {"sync": {"name": "server", "mode": "asynchronous"}},
        "server bounded": {"sync": {"name": "server", "mode": "bounded", "max_staleness": 4}},
        "gossip": {"sync": {"name": "gossip"}},
        "hogwild": {"sync": {"name": "hogwild"}},
    }


def rate(recipe: dict[str, Any], workers: int, folder: Path) -> tuple[float, dict[str, Any]]:
    """Steps per second of one run, and its summary."""
    path, run = folder / "recipe.json", folder / "run"
    path.write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "hocket", "train", str(path), "--run", str(run), "--workers"]
    told = subprocess.run([*command, str(workers), "--json"], capture_output=True, text=True)
    if told.returncode:
        raise SystemExit(f"{recipe['sync']}:\n{told.stderr}")
    steps = events.surviving_steps(run / "events.jsonl")
    first = len(steps) // 10
    seconds = float(steps[-1]["time"]) - float(steps[first]["time"])
    return (len(steps) - 1 - first) / seconds, json.loads(told.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--only", nargs="*", help="beside all_reduce")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.corpus is None:
        print("slow_worker: name a prepared corpus: not run", file=sys.stderr)
        return
    rows = []
    for workers in options.workers:
        chosen = {
            name: changes
            for name, changes in strategies(workers).items()
            if not options.only or name in ("all_reduce", *options.only)
        }
        rates: dict[str, list[float]] = {name: [] for name in chosen}
        shares: dict[str, float | None] = {}
        for _ in range(options.rounds):
            for name, changes in chosen.items():
                recipe = {
                    "corpus": str(options.corpus.resolve()),
                    "seed": 1,
                    "steps": options.steps,
                    "device": "cpu",
                    "model": {"preset": "tiny"},
                    "batch": {"seconds": 30.0, "micro_batches_per_step": 16, "pool_steps": 8},
                    "checkpoint": {"every_steps": 1000},
                    "faults": {"link_seconds": 60},
                    "debug": {"slow": {0: FACTOR}},
                    "tensorboard": False,
                    **changes,
                }
                with tempfile.TemporaryDirectory() as folder:
                    found, summary = rate(recipe, workers, Path(folder))
                rates[name].append(found)
                shares[name] = summary.get("leases", {}).get("shares", {}).get("0")
                print(f"{workers} workers, {name}: {found:.2f} steps/s", file=sys.stderr, flush=True)
        for name, found_rates in rates.items():
            pairs = zip(found_rates, rates["all_reduce"], strict=True)
            rows.append(
                {
                    "workers": workers,
                    "strategy": name,
                    "steps_per_second": round(statistics.median(found_rates), 3),
                    "progress": round(statistics.median(own / plain for own, plain in pairs), 3),
                    "share_of_slow_worker": shares[name],
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
