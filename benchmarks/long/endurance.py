"""Twenty random SIGKILLs over one training run, and what each of them cost.

The run is ``numerics.exact``, on two workers. Kills are drawn from the seed that is printed: a random
worker, the whole job (its launcher; then it is resumed as a user does), or a random worker while a
checkpoint is being written. Afterwards the weights must be those of an undisturbed run of one worker,
bit for bit, and every step must have learnt from the same utterances.

    python benchmarks/long/endurance.py [--kills 20] [--seed N] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hocket.comms.heartbeat import read_beats
from hocket.core import events
from hocket.hardware.device import describe

WORKER, JOB, CHECKPOINT = "a worker", "the whole job", "a worker, during a checkpoint"
PARTS = ("detection", "teardown", "start and imports", "rendezvous", "model", "plan", "checkpoint", "other")
AFTER = ("first step", "steps done again")
PATIENCE = 600.0

RECIPE: dict[str, Any] = {
    "seed": 5,
    "device": "cpu",
    "model": {"preset": "tiny", "hidden_size": 96, "num_layers": 3, "subsampling_channels": 8},
    "batch": {"seconds": 8, "micro_batches_per_step": 4},
    "numerics": {"exact": True},
    "checkpoint": {"every_steps": 10},
    "optimiser": {"warmup_steps": 50},
    "tensorboard": False,
}


@dataclass
class Kill:
    """One SIGKILL and what came after it; times in seconds since the epoch."""

    kind: str
    after_step: int
    """It falls once this step has been written."""
    time: float = 0.0
    reached: int = -1
    """Last step that had been written when it fell."""
    noticed: float | None = None
    """When the job knew: the launcher, or for a whole job whoever starts it again."""
    seconds: dict[str, float] = field(default_factory=dict)
    resumed_at: int = -1
    """First step of the attempt after it."""


class Job:
    """``hocket train``, started as often as it takes."""

    def __init__(self, recipe: Path, run: Path, workers: int) -> None:
        self.run, self._recipe, self._workers = run, recipe, workers
        self.process = self._start()

    def _start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "hocket", "train", str(self._recipe), "--run", str(self.run)]
        return subprocess.Popen(
            [*command, "--workers", str(self._workers), "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def resume(self) -> None:
        """Start it again after its launcher was killed, once none of its processes holds the folder."""
        self.process.communicate()
        self.process = self._start("--resume")

    def finish(self) -> dict[str, Any]:
        """Wait for the end; what it printed."""
        out, err = self.process.communicate(timeout=PATIENCE)
        if self.process.returncode:
            raise SystemExit(f"the job left with {self.process.returncode}:\n{err}")
        told: dict[str, Any] = json.loads(out)
        return told


def draw_kills(seed: int, count: int, steps: int) -> list[Kill]:
    """Kills spread over the run: one at a random place in each of ``count`` stretches of it."""
    draw = random.Random(seed)
    kinds = [WORKER, JOB, CHECKPOINT] * (count // 3 + 1)
    kinds = kinds[:count]
    draw.shuffle(kinds)
    stretch = (steps - 10) / count
    return [Kill(kind, round(stretch * (n + draw.random()))) for n, kind in enumerate(kinds)]


def fall(kill: Kill, job: Job, draw: random.Random, past: int) -> int:
    """Wait for its moment in an attempt later than ``past``, and kill; returns the attempt it fell in."""
    path, deadline = job.run / "events.jsonl", time.monotonic() + PATIENCE
    offset, attempt, latest = 0, 0, -1
    while True:
        if job.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"the job ended, or stood still, before step {kill.after_step}")
        for event, end in events.follow(path, offset):
            offset = end
            if event["event"] == "start":
                attempt, latest = event["attempt"], event["step"] - 1
            elif event["event"] == "step":
                latest = event["step"]
        ready = attempt > past and latest >= kill.after_step
        if ready and (kill.kind != CHECKPOINT or any((job.run / "checkpoints").glob(".*.tmp"))):
            beats = read_beats(job.run / "heartbeats")
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.process.pid if kill.kind == JOB else draw.choice(beats).pid, signal.SIGKILL)
                kill.time, kill.reached = time.time(), latest
                break
        time.sleep(0.002)
    if kill.kind == JOB:
        job.process.wait()
        kill.noticed = time.time()
        job.resume()
    return attempt


def account(kills: list[Kill], log: list[events.Event]) -> None:
    """Give each kill the seconds of its restart by part, from the events."""
    for kill in kills:
        later = [event for event in log if event["time"] >= kill.time - 0.001]
        start = next(event for event in later if event["event"] == "start")
        of_start = [event for event in later if event["attempt"] == start["attempt"]]
        steps = [event for event in of_start if event["event"] == "step"]
        seconds = dict(start["starting"])
        inside = sum(seconds.values())
        seconds["other"] = seconds.pop("matrix rate", 0.0) + seconds.pop("other", 0.0)
        restart = next((event for event in later if event["event"] == "restart"), None)
        if kill.kind != JOB and restart is not None and restart["time"] <= start["time"]:
            noticed = restart["time"] - restart["teardown_seconds"]
            seconds["teardown"], gone = restart["teardown_seconds"], restart["time"]
        else:
            noticed = gone = kill.noticed if kill.noticed is not None else kill.time
            seconds["teardown"] = 0.0
        seconds["detection"] = max(0.0, noticed - kill.time)
        seconds["start and imports"] = max(0.0, start["time"] - gone - inside)
        kill.resumed_at = start["step"]
        if steps:
            seconds["first step"] = steps[0]["time"] - start["time"]
            again = [event for event in steps if event["step"] <= kill.reached]
            seconds["steps done again"] = again[-1]["time"] - steps[0]["time"] if again else 0.0
        kill.seconds = seconds


def hocket(*words: str) -> None:
    """Run a command as a user does."""
    subprocess.run([sys.executable, "-m", "hocket", *words, "--json"], check=True, capture_output=True)


def learnt(run: Path) -> list[tuple[int, int]]:
    """(step, digest of utterances) of the steps that made the weights."""
    return [(event["step"], event["utterances"]) for event in events.surviving_steps(run / "events.jsonl")]


def table(kills: list[Kill]) -> list[str]:
    """Medians by kind of kill, then each kill."""
    columns = [*PARTS, *AFTER]
    lines = [
        f"| what was killed | kills | {' | '.join(columns)} | whole |",
        f"| --- |{' --- |' * (len(columns) + 2)}",
    ]
    for kind in (WORKER, CHECKPOINT, JOB):
        of_kind = [kill.seconds for kill in kills if kill.kind == kind]
        if of_kind:
            cells = [f"{statistics.median(s.get(c, 0.0) for s in of_kind):.2f}" for c in columns]
            whole = statistics.median(sum(s.values()) for s in of_kind)
            lines.append(f"| {kind} | {len(of_kind)} | {' | '.join(cells)} | {whole:.2f} |")
    lines += ["", "| kill | what | after step | went on from | seconds lost |", f"|{' --- |' * 5}"]
    for number, kill in enumerate(kills, 1):
        lost = sum(kill.seconds.values())
        lines.append(f"| {number} | {kill.kind} | {kill.reached} | {kill.resumed_at} | {lost:.2f} |")
    return lines


def main() -> int:
    """Run undisturbed, run disturbed, compare; 1 when anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        hocket("prepare", "synthetic:utterances=200,seed=1", str(folder / "corpus"))
        recipe = folder / "recipe.yaml"
        recipe.write_text(json.dumps({**RECIPE, "corpus": str(folder / "corpus"), "steps": options.steps}))
        calm = Job(recipe, folder / "calm", workers=1).finish()
        print(f"undisturbed: {calm['wall_seconds']:.0f} s, weights {calm['weights_sha256'][:12]}", flush=True)
        kills, draw = draw_kills(options.seed, options.kills, options.steps), random.Random(options.seed + 1)
        job, began = Job(recipe, folder / "run", options.workers), time.monotonic()
        try:
            attempt = 0
            for number, kill in enumerate(kills, 1):
                attempt = fall(kill, job, draw, attempt)
                print(f"{number}: {kill.kind}, after step {kill.reached}", flush=True)
            told = job.finish()
        finally:
            if job.process.poll() is None:
                job.process.kill()
                job.process.communicate()
        took = time.monotonic() - began
        account(kills, list(events.read(folder / "run" / "events.jsonl")))
        same = told["weights_sha256"] == calm["weights_sha256"]
        same_work = learnt(folder / "run") == learnt(folder / "calm")
    page = "\n".join(
        [
            f"# {options.kills} SIGKILLs over one run",
            "",
            f"`python benchmarks/long/endurance.py --seed {options.seed}`, {datetime.date.today()}; "
            f"{json.dumps(describe())}",
            "",
            f"{options.steps} steps, {options.workers} workers, a checkpoint every "
            f"{RECIPE['checkpoint']['every_steps']} steps, `numerics.exact`; {took:.0f} s with all restarts.",
            f"Load average of the machine during the run: {os.getloadavg()[1]:.1f}.",
            f"Weights of the disturbed run: {told['weights_sha256'][:16]}; of the undisturbed run on one "
            f"worker: {calm['weights_sha256'][:16]}: {'equal' if same else 'DIFFERENT'}.",
            f"Utterances of every step: {'equal' if same_work else 'DIFFERENT'}.",
            "",
            "Seconds that a kill cost, medians by part:",
            "",
            *table(kills),
            "",
        ]
    )
    print(page)
    if options.out is not None:
        options.out.write_text(page)
    return 0 if same and same_work else 1


if __name__ == "__main__":
    sys.exit(main())
