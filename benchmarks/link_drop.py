"""A link that drops for five seconds, under every strategy: does the run go on?

Two workers on two hosts, which are network namespaces of this machine; the second one's link goes down in
the middle of the run and comes up again. Needs root and iproute2; leaves with status 3 without.

    python benchmarks/link_drop.py CORPUS [--seconds 5] [--sync all_reduce server gossip]

Prints one line of JSON a strategy: whether the run ended well, the longest time between two steps, the
median one, and the workers lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hocket.comms.links import Host, Hosts, Link, ranks, why_not
from hocket.comms.supervision import die_with_parent
from hocket.core import events

LINK = Link.parse("1gbit")
NOT_RUN = 3
STRATEGIES: dict[str, dict[str, Any]] = {
    "all_reduce": {"name": "all_reduce"},
    "local_sgd": {"name": "local_sgd", "sync_every": 4},
    "server": {"name": "server", "mode": "asynchronous"},
    "bounded": {"name": "server", "mode": "bounded", "shards": 2},
    "gossip": {"name": "gossip"},
}


def start(rank: int, hosts: Sequence[Host], recipe: Path, run: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "hocket", "train", str(recipe), "--run-dir", str(run), "--json"]
    return subprocess.Popen(
        hosts[rank].command(words),
        env={**os.environ, **ranks.environment(rank, hosts)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=die_with_parent,
    )


def steps_of(run: Path) -> list[events.Event]:
    return events.surviving_steps(run / "events.jsonl")


def measure(
    name: str, corpus: Path, seconds: float, num_steps: int, hosts: Sequence[Host], folder: Path
) -> dict[str, Any]:
    recipe, run = folder / "recipe.json", folder / "run"
    settings = {
        "corpus": str(corpus.resolve()),
        "seed": 1,
        "steps": num_steps,
        "device": "cpu",
        "model": {"preset": "tiny"},
        "batch": {"seconds": 20.0, "micro_batches_per_step": 4, "pool_steps": 8},
        "checkpoint": {"every_steps": 1000},
        "tensorboard": False,
        "sync": STRATEGIES[name],
    }
    recipe.write_text(json.dumps(settings))
    processes = [start(rank, hosts, recipe, run) for rank in (0, 1)]
    deadline = time.monotonic() + 600
    while len(steps_of(run)) < num_steps // 3 and time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.1)
    hosts[1].set_link(up=False)
    time.sleep(seconds)
    hosts[1].set_link(up=True)
    up = time.time()
    told = [process.communicate(timeout=600)[1] for process in processes]
    stamps = [float(step["time"]) for step in steps_of(run)]
    gaps = [after - before for before, after in itertools.pairwise(stamps)]
    return {
        "strategy": name,
        "status": [process.returncode for process in processes],
        "steps": len(stamps),
        "down_seconds": seconds,
        "longest_gap_seconds": round(max(gaps, default=0.0), 2),
        "median_gap_seconds": round(statistics.median(gaps), 3) if gaps else None,
        "first_step_after_seconds": round(min((each - up for each in stamps if each > up), default=-1.0), 2),
        "workers_lost": [
            event["reason"] for event in events.read(run / "events.jsonl") if event["event"] == "worker_lost"
        ],
        "said": [text.strip().splitlines()[-1:] for text in told],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--sync", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    options = parser.parse_args()
    reason = why_not() or (None if options.corpus is not None else "name a prepared corpus")
    if reason is not None:
        print(f"link_drop: {reason}: not run", file=sys.stderr)
        return NOT_RUN
    for name in options.sync:
        with Hosts(2, LINK, name="hocket-drop") as hosts, tempfile.TemporaryDirectory() as folder:
            found = measure(name, options.corpus, options.seconds, options.steps, hosts, Path(folder))
            print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
