"""A link that drops for five seconds, under every strategy: does the run go on, or end and name somebody?

Two workers on two hosts, which are network namespaces of this machine. In the middle of a run one host's
link goes down and comes up again: the second's, where a worker is, or the first's, where also rank 0 is and
with it the store that ranks meet at, the supervisor and the shards of a parameter server. A run holds when
it takes all its steps, or ends within 15 seconds with a message that names who is lost. Needs root and
iproute2; leaves with status 3 without, and with 1 when a run did not hold.

    python benchmarks/link_drop.py [--corpus CORPUS] [--seconds 5] [--sync NAME ...] [--ends second first]
        [--page benchmarks/results/NAME.md]
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
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.training_runs import SYNTHETIC, corpus_in, give, head

from hocket.comms.links import Host, Hosts, Link, ranks, why_not
from hocket.comms.supervision import die_with_parent
from hocket.core import events

LINK = Link.parse("1gbit")
NOT_RUN, NOT_HELD = 3, 1
MOST_SECONDS = 15.0
"""From the drop to the end of a run that does not go on."""
PATIENCE_SECONDS = 240.0
"""For a start, and for all steps after the link is back: what takes longer hangs."""
STRATEGIES: dict[str, dict[str, Any]] = {
    "all_reduce": {"name": "all_reduce"},
    "all_reduce one_bit": {"name": "all_reduce", "compression": "one_bit"},
    "local_sgd": {"name": "local_sgd", "sync_every": 4},
    "server synchronous": {"name": "server", "mode": "synchronous"},
    "server bounded": {"name": "server", "mode": "bounded", "shards": 2},
    "server asynchronous": {"name": "server", "mode": "asynchronous"},
    "gossip": {"name": "gossip"},
}
ENDS = ("first", "second")
HEAD = (
    "strategy",
    "link of",
    "steps",
    "median s between steps",
    "longest",
    "first step after the link is back, s",
    "trouble told",
    "workers lost",
    "left with",
    "held",
)


@dataclass(frozen=True)
class Found:
    """What became of a run whose link dropped."""

    steps: list[float]
    """Times of all steps."""
    down: float
    up: float
    ended: list[float | None]
    """When each rank's process left; None for one that had to be killed."""
    status: list[int | None]
    said: list[str]
    """Last line of each rank's standard error."""
    told: list[events.Event]
    """``worker_lost``, ``shard_lost``, ``restart`` and ``trouble``."""

    def held(self, num_steps: int) -> bool:
        """All steps, or an end in time that names somebody; nobody was killed."""
        if any(ended is None for ended in self.ended):
            return False
        if len(self.steps) == num_steps and self.status[0] == 0:
            return True
        last = max(ended for ended in self.ended if ended is not None)
        return last - self.down <= MOST_SECONDS and all(self.said)


def start(rank: int, hosts: Sequence[Host], recipe: Path, run: Path, log: Path) -> subprocess.Popen[bytes]:
    """One rank on its host; its standard error goes to ``log``."""
    words = [sys.executable, "-m", "hocket", "train", str(recipe), "--run-dir", str(run), "--json"]
    paths = os.pathsep.join(part for part in sys.path if part)
    with log.open("wb") as errors:
        return subprocess.Popen(
            hosts[rank].command(words),
            env={**os.environ, **ranks.environment(rank, hosts), "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            preexec_fn=die_with_parent,
        )


def measure(
    recipe: dict[str, Any], seconds: float, dropped: int, hosts: Sequence[Host], folder: Path
) -> Found:
    """Train by ``recipe`` on both hosts, and drop the link of one after a third of the steps."""
    path, run = folder / "recipe.json", folder / "run"
    path.write_text(json.dumps(recipe))
    logs = [folder / f"rank-{rank}.log" for rank in range(len(hosts))]
    with ExitStack() as stack:
        processes = []
        for rank, log in enumerate(logs):
            processes.append(start(rank, hosts, path, run, log))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(events.surviving_steps(run / "events.jsonl")) < recipe["steps"] // 3:
            gone = [rank for rank, process in enumerate(processes) if process.poll() is not None]
            if gone or time.monotonic() > deadline:
                raise SystemExit(f"{recipe['sync']}: it did not begin: {[words(log) for log in logs]}")
            time.sleep(0.05)
        hosts[dropped].set_link(up=False)
        down = time.time()
        ended = await_ends(processes, [None] * len(hosts), down + seconds)
        hosts[dropped].set_link(up=True)
        up = time.time()
        ended = await_ends(processes, ended, up + PATIENCE_SECONDS)
        status = [process.poll() for process in processes]
    kinds = ("worker_lost", "shard_lost", "restart", "trouble")
    return Found(
        steps=[float(step["time"]) for step in events.surviving_steps(run / "events.jsonl")],
        down=down,
        up=up,
        ended=ended,
        status=status,
        said=[words(log) for log in logs],
        told=[event for event in events.read(run / "events.jsonl") if event["event"] in kinds],
    )


def await_ends(
    processes: Sequence[subprocess.Popen[bytes]], ended: Sequence[float | None], until: float
) -> list[float | None]:
    """When each left; returns at ``until``, or when all have."""
    found = list(ended)
    while None in found and time.time() < until:
        for rank, process in enumerate(processes):
            if found[rank] is None and process.poll() is not None:
                found[rank] = time.time()
        time.sleep(0.05)
    return found


def words(log: Path) -> str:
    """The last line that a rank wrote."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def row(name: str, dropped: int, found: Found, num_steps: int) -> str:
    """A line of the table."""
    gaps = [after - before for before, after in itertools.pairwise(found.steps)]
    after = [each - found.up for each in found.steps if each > found.up]
    lost = [
        f"{event['reason']} ({event['time'] - found.down:.1f} s after the drop)"
        for event in found.told
        if event["event"] != "trouble"
    ]
    troubles = sum(event["event"] == "trouble" for event in found.told)
    ends = [
        "killed: it hung" if ended is None else f"{status}" + (f" ({said})" if status and said else "")
        for ended, status, said in zip(found.ended, found.status, found.said, strict=True)
    ]
    cells = (
        name,
        f"{ENDS[dropped]} host",
        f"{len(found.steps)} of {num_steps}",
        f"{statistics.median(gaps):.3f}" if gaps else "",
        f"{max(gaps):.2f}" if gaps else "",
        f"{min(after):.2f}" if after else "",
        str(troubles),
        "; ".join(lost) or "none",
        ", ".join(ends),
        "yes" if found.held(num_steps) else "NO",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Drop the link of every case, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", default=SYNTHETIC, help="a prepared corpus, or what prepare takes")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--sync", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--ends", nargs="+", default=["second", "first"], choices=ENDS)
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"link_drop: {reason}: not run", file=sys.stderr)
        return NOT_RUN
    rows, all_held = [], True
    with tempfile.TemporaryDirectory() as temporary:
        recipe = {
            "corpus": str(corpus_in(Path(temporary), o.corpus)),
            "seed": 1,
            "steps": o.steps,
            "device": "cpu",
            "model": {"preset": "tiny"},
            "batch": {"seconds": 20.0, "micro_batches_per_step": 4, "pool_steps": 8},
            "checkpoint": {"every_steps": 1000},
            "tensorboard": False,
        }
        for end, name in itertools.product(o.ends, o.sync):
            with Hosts(2, LINK, name="hocket-drop") as hosts, tempfile.TemporaryDirectory() as folder:
                case = {**recipe, "sync": STRATEGIES[name]}
                found = measure(case, o.seconds, ENDS.index(end), hosts, Path(folder))
                rows.append(row(name, ENDS.index(end), found, o.steps))
                all_held &= found.held(o.steps)
                print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        *head(f"A link that drops for {o.seconds:g} seconds"),
        f"Two workers on two hosts (network namespaces, {LINK.name}); `faults.link_seconds` is 10. The link "
        "goes down after a third of the steps. Held: all steps were taken, or the run ended within "
        f"{MOST_SECONDS:g} s of the drop and named who was lost.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *rows,
    ]
    give(lines, o.page)
    return 0 if all_held else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
