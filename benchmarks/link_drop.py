"""A link that drops for five seconds, under every strategy: does the run go on?

Two workers on two hosts, which are network namespaces of this machine joined by a veth pair; the link
goes down in the middle of the run and comes up again. Needs root and iproute2, and says so without.

    python benchmarks/link_drop.py CORPUS [--seconds 5] [--sync all_reduce server gossip]

Prints one line of JSON a strategy: whether the run ended well, the longest time between two steps, the
median one, and the workers lost.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hocket.core import events

HOSTS = ("hocket-a", "hocket-b")
ADDRESSES = ("10.77.41.1", "10.77.41.2")
LINKS = ("veth-hocket-a", "veth-hocket-b")
STRATEGIES: dict[str, dict[str, Any]] = {
    "all_reduce": {"name": "all_reduce"},
    "local_sgd": {"name": "local_sgd", "sync_every": 4},
    "server": {"name": "server", "mode": "asynchronous"},
    "bounded": {"name": "server", "mode": "bounded", "shards": 2},
    "gossip": {"name": "gossip"},
}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


@contextmanager
def two_hosts() -> Iterator[None]:
    try:
        for host in HOSTS:
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
        ip("link", "add", LINKS[0], "netns", HOSTS[0], "type", "veth", "peer", LINKS[1], "netns", HOSTS[1])
        for host, link, address in zip(HOSTS, LINKS, ADDRESSES, strict=True):
            ip("-n", host, "address", "add", f"{address}/24", "dev", link)
            ip("-n", host, "link", "set", link, "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], stderr=subprocess.DEVNULL)


def start(rank: int, recipe: Path, run: Path, port: int) -> subprocess.Popen[str]:
    place = {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": ADDRESSES[0],
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": LINKS[rank],
        "OMP_NUM_THREADS": "1",
    }
    command = ["ip", "netns", "exec", HOSTS[rank], sys.executable, "-m", "hocket", "train", str(recipe)]
    return subprocess.Popen(
        [*command, "--run-dir", str(run), "--json"],
        env={**os.environ, **place},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def steps_of(run: Path) -> list[events.Event]:
    return events.surviving_steps(run / "events.jsonl")


def measure(
    name: str, corpus: Path, seconds: float, num_steps: int, port: int, folder: Path
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
    processes = [start(rank, recipe, run, port) for rank in (0, 1)]
    deadline = time.monotonic() + 600
    while len(steps_of(run)) < num_steps // 3 and time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            break
        time.sleep(0.1)
    ip("-n", HOSTS[1], "link", "set", LINKS[1], "down")
    time.sleep(seconds)
    ip("-n", HOSTS[1], "link", "set", LINKS[1], "up")
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path, nargs="?")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--sync", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    options = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("ip") is None:
        print("link_drop: needs root and iproute2 (network namespaces): not run", file=sys.stderr)
        return
    if options.corpus is None:
        print("link_drop: name a prepared corpus: not run", file=sys.stderr)
        return
    for number, name in enumerate(options.sync):
        with two_hosts(), tempfile.TemporaryDirectory() as folder:
            found = measure(
                name, options.corpus, options.seconds, options.steps, 29500 + number, Path(folder)
            )
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
