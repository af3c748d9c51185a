"""A link that drops for five seconds, under every strategy: does the run go on, or end and name somebody?

Two workers on two hosts, which are network namespaces of this machine. In the middle of a run one host's
link goes down and comes up again: the second's, where a worker is, or the first's, where also rank 0 is and
with it the store that ranks meet at, the supervisor and the shards of a parameter server. A run holds when
within 15 seconds it goes on, or ends with a message that names who is lost; one that went on is then stopped.
Needs root and iproute2; leaves with status 3 without, and with 1 when a run did not hold.

    python benchmarks/link_drop.py --corpus CORPUS [--seconds 5] [--sync NAME ...] [--ends second first]
        [--page benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
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
FIRST_STEPS, MORE_STEPS = 12, 12
"""Before the drop, and after it."""
PATIENCE_SECONDS = 240.0
"""For a start, for the steps after the link is back, and for the end: what takes longer hangs."""
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
    "s a step before",
    "longest time without",
    "s from the drop to the first step with both workers after it",
    "trouble told",
    "lost",
    "left with",
    "held",
)


@dataclass(frozen=True)
class Found:
    """What became of a run whose link dropped."""

    steps: list[events.Event]
    down: float
    up: float
    ended: list[float | None]
    """When each rank's process left; None for one that had to be killed."""
    status: list[int | None]
    said: list[str]
    """Last line of each rank's standard error."""
    told: list[events.Event]
    """``worker_lost``, ``shard_lost``, ``restart`` and ``trouble``."""

    @property
    def later(self) -> list[events.Event]:
        """Steps after the link was back."""
        return [step for step in self.steps if step["time"] > self.up]

    @property
    def together(self) -> float | None:
        """Seconds from the drop to the first step after it that both workers had a part in; None without."""
        found = [step for step in self.later if min(step.get("by_worker", [1])) > 0]
        return float(found[0]["time"]) - self.down if found else None

    @property
    def lost(self) -> list[str]:
        """Who was lost, and when."""
        return [
            f"{event['reason']} ({event['time'] - self.down:.1f} s after the drop)"
            for event in self.told
            if event["event"] != "trouble"
        ]

    @property
    def held(self) -> bool:
        """It went on in time, with both or without one that is named, or ended in time naming somebody."""
        if any(ended is None for ended in self.ended):
            return False
        if len(self.later) >= MORE_STEPS and self.status[0] == 0:
            times = [float(step["time"]) for step in self.steps]
            waits = [late - early for early, late in itertools.pairwise(times) if late > self.down]
            return max(waits) <= MOST_SECONDS and (self.together is not None or bool(self.lost))
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
    """Train by ``recipe`` on both hosts, drop the link of one, and stop the run once it has gone on."""
    path, run = folder / "recipe.json", folder / "run"
    path.write_text(json.dumps(recipe))
    logs = [folder / f"rank-{rank}.log" for rank in range(len(hosts))]
    with ExitStack() as stack:
        processes = []
        for rank, log in enumerate(logs):
            processes.append(start(rank, hosts, path, run, log))
            stack.callback(processes[-1].wait)
            stack.callback(processes[-1].kill)
        if not wait_until(lambda: len(steps_of(run)) >= FIRST_STEPS, processes):
            raise SystemExit(f"{recipe['sync']}: it did not begin: {[words(log) for log in logs]}")
        hosts[dropped].set_link(up=False)
        down = time.time()
        ended = await_ends(processes, [None] * len(hosts), down + seconds)
        hosts[dropped].set_link(up=True)
        up = time.time()

        def gone_on() -> bool:
            now = Found(steps_of(run), down, up, ended, [], [], told_of(run))
            return len(now.later) >= MORE_STEPS and (now.together is not None or bool(now.lost))

        wait_until(gone_on, processes)
        (run / "stop").touch()
        ended = await_ends(processes, ended, time.time() + PATIENCE_SECONDS)
        status = [process.poll() for process in processes]
    return Found(steps_of(run), down, up, ended, status, [words(log) for log in logs], told_of(run))


def steps_of(run: Path) -> list[events.Event]:
    """All steps so far."""
    return events.surviving_steps(run / "events.jsonl")


def told_of(run: Path) -> list[events.Event]:
    """What was said of faults so far."""
    kinds = ("worker_lost", "shard_lost", "restart", "trouble")
    return [event for event in events.read(run / "events.jsonl") if event["event"] in kinds]


def wait_until(done: Callable[[], bool], processes: Sequence[subprocess.Popen[bytes]]) -> bool:
    """False when rank 0 left, or nothing came of it, before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not done():
        if processes[0].poll() is not None or time.monotonic() > deadline:
            return done()
        time.sleep(0.05)
    return True


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


def row(name: str, dropped: int, found: Found) -> str:
    """A line of the table."""
    times = [float(step["time"]) for step in found.steps]
    before = [each for each in times if each <= found.down]
    gaps = [late - early for early, late in itertools.pairwise(times)]
    ends = [
        "killed: it hung" if ended is None else f"{status}" + (f" ({said})" if status and said else "")
        for ended, status, said in zip(found.ended, found.status, found.said, strict=True)
    ]
    cells = (
        name,
        f"{ENDS[dropped]} host",
        f"{(before[-1] - before[0]) / (len(before) - 1):.3f}",
        f"{max(gaps):.2f}",
        "" if found.together is None else f"{found.together:.2f}",
        str(sum(event["event"] == "trouble" for event in found.told)),
        "; ".join(found.lost) or "nobody",
        ", ".join(ends),
        "yes" if found.held else "NO",
    )
    return f"| {' | '.join(cells)} |"


def main() -> int:
    """Drop the link of every case, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", help=f"a prepared corpus, or what prepare takes: {SYNTHETIC}")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sync", nargs="+", default=list(STRATEGIES), choices=list(STRATEGIES))
    parser.add_argument("--ends", nargs="+", default=["second", "first"], choices=ENDS)
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    reason = why_not() or (None if o.corpus else "it takes ten minutes: name a --corpus")
    if reason is not None:
        print(f"link_drop: {reason}: not run", file=sys.stderr)
        return NOT_RUN
    rows, all_held = [], True
    with tempfile.TemporaryDirectory() as temporary:
        recipe = {
            "corpus": str(corpus_in(Path(temporary), o.corpus)),
            "seed": 1,
            "steps": 1_000_000,  # it is stopped
            "device": "cpu",
            "model": {"preset": "tiny"},
            "batch": {"seconds": 20.0, "micro_batches_per_step": 4, "pool_steps": 8},
            "checkpoint": {"every_steps": 10_000_000},
            "tensorboard": False,
        }
        for end, name in itertools.product(o.ends, o.sync):
            with Hosts(2, LINK, name="hocket-drop") as hosts, tempfile.TemporaryDirectory() as folder:
                case = {**recipe, "sync": STRATEGIES[name]}
                found = measure(case, o.seconds, ENDS.index(end), hosts, Path(folder))
                rows.append(row(name, ENDS.index(end), found))
                all_held &= found.held
                print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        *head(f"A link that drops for {o.seconds:g} seconds"),
        f"Two workers on two hosts (network namespaces, {LINK.name}); `faults.link_seconds` is 10. Held: "
        f"within {MOST_SECONDS:g} s of the drop the run goes on, with both workers or without one that it "
        "names, or ends and names who was lost; no process has to be killed.",
        "",
        f"| {' | '.join(HEAD)} |",
        f"|{'---|' * len(HEAD)}",
        *rows,
    ]
    give(lines, o.page)
    return 0 if all_held else NOT_HELD


if __name__ == "__main__":
    sys.exit(main())
