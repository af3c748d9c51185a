"""Two workers beside one, and beside two independent processes that know nothing of each other.

Training (``--recipe`` on ``--corpus``) and recognition (its training split, again and again), one thread
each. Two independent processes are what two cores give when nothing has to be agreed on: two trainings
in folders of their own, two recognitions of the same list. The three take turns, and what counts are the
medians of the ratios within a round of turns. Start-up is not counted, and given apart.

A shared machine is faster in one minute than in the next, by more than is to be measured. So the three
trainings are all there from the beginning, two of them stopped (SIGSTOP) while the third has its turn of
``--turn`` seconds, until each had ``--seconds``; what a step learnt from is spread evenly over the time that
the training was awake for it. Features are not kept in memory (``loading.cache_mb: 0``), so that no process
becomes faster as it goes. Recognitions come to an end by themselves, and take turns as a whole.

    python benchmarks/long/two_workers.py [--corpus PREPARED] [--recipe recipes/an4.yaml] [--set KEY=VALUE]
        [--seconds 75] [--turn 20] [--rounds 3] [--part training recognition] [--quick] [--out RESULT.md]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hocket.core import events
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import HOP
from hocket.corpus.index import CorpusIndex
from hocket.hardware.device import describe

RECIPE = Path(__file__).parent.parent.parent / "recipes" / "an4.yaml"
SYNTHETIC = "synthetic:utterances=1200"
SPLIT = "train"
WARMUP_STEPS = 20
"""Of a training, not counted: kernels are prepared, loading gets ahead."""
WITHOUT_END = 10**6
"""Steps, of a training that is ended from outside."""
PATIENCE = 3600.0
"""Seconds that a training may be silent: it is stopped while others have their turn."""


@dataclass(frozen=True)
class Outcome:
    """Of one or two commands that ran at the same time."""

    speed: float
    """Audio seconds a second in steady state, added up."""
    seconds: float
    """Of steady state."""
    startup: float


@dataclass(frozen=True)
class Round:
    """The three, one after the other."""

    two: Outcome
    independent: Outcome
    one: Outcome


def start(*words: str) -> subprocess.Popen[str]:
    """Start a command as a user does; its processes are a group of their own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hocket", *words, "--json"]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its answer."""
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{process.args!r}:\n{out}{err}")
    answer: dict[str, Any] = json.loads(out)
    return answer


class Side:
    """Trainings that run at the same time, and only in their turns."""

    def __init__(self, runs: Sequence[Path], workers: Sequence[int], words: Sequence[str]) -> None:
        self._runs = runs
        self._turns: list[tuple[float, float]] = []
        self._begun = time.time()
        self._processes = [
            start("train", *words, "--run", str(run), "--workers", str(count))
            for run, count in zip(runs, workers, strict=True)
        ]

    def warm_up(self, steps: int) -> None:
        """Run until every training has made so many steps."""
        while any(len(_ends_and_frames(run)[0]) < steps for run in self._runs):
            time.sleep(0.2)
            for process in self._processes:
                if process.poll() is not None:
                    finish(process)
                    raise RuntimeError(f"{process.args!r} ended by itself")
        self._signal(signal.SIGSTOP)
        self._turns.append((self._begun, time.time()))

    def turn(self, seconds: float) -> None:
        """Run for so long."""
        begin = time.time()
        self._signal(signal.SIGCONT)
        time.sleep(seconds)
        self._signal(signal.SIGSTOP)
        self._turns.append((begin, time.time()))

    def end(self) -> None:
        """End them, wherever they are."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.communicate()

    def outcomes(self) -> list[Outcome]:
        """Of each turn but the first, which was for warming up, and the last, whose last step has no end."""
        startup = max(_ends_and_frames(run)[0][0] for run in self._runs) - self._begun
        edges = np.cumsum([0.0, *(end - begin for begin, end in self._turns)])
        learnt_at_edges = np.zeros(len(edges))
        for run in self._runs:
            ends, frames = _ends_and_frames(run)
            awake = [self._awake(end) for end in ends]
            learnt_at_edges += np.interp(edges, awake, np.cumsum([0, *frames[1:]]))
        speeds = np.diff(learnt_at_edges) * HOP / SAMPLE_RATE / np.diff(edges)
        return [
            Outcome(float(speed), float(seconds), startup)
            for speed, seconds in list(zip(speeds, np.diff(edges), strict=True))[1:-1]
        ]

    def _awake(self, moment: float) -> float:
        """Seconds that these have run for until then."""
        return sum(max(0.0, min(end, moment) - begin) for begin, end in self._turns)

    def _signal(self, which: signal.Signals) -> None:
        for process in self._processes:
            os.killpg(process.pid, which)


def _ends_and_frames(run: Path) -> tuple[list[float], list[int]]:
    """When steps ended, and what each learnt from in frames.

    A step is recorded when the next one has been computed, so what is recorded of a step is when the
    next one ended; of the first the end is not known, and left out.
    """
    told = events.surviving_steps(run / "events.jsonl")
    return [float(event["time"]) for event in told[:-1]], [int(event["num_frames"]) for event in told[1:]]


class Training:
    """Trainings of the same recipe."""

    def __init__(self, corpus: Path, recipe: Path, settings: Sequence[str], scratch: Path) -> None:
        self._scratch = scratch
        changes = [
            f"corpus={corpus}",
            "validation.every_steps=0",
            "loading.cache_mb=0",
            "threads=1",
            f"faults.silence_seconds={PATIENCE}",
            *settings,
        ]
        self._words = [str(recipe), *(word for change in changes for word in ("--set", change))]

    def model(self, steps: int) -> Path:
        """A run folder with a model in it, hardly trained."""
        run = self._scratch / "model"
        last = ["--set", f"steps={steps}", "--set", f"checkpoint.every_steps={steps}"]
        finish(start("train", *self._words, *last, "--run", str(run), "--workers", "1"))
        return run

    def rounds(self, warmup: int, seconds: float, turn: float) -> list[Round]:
        """Two workers, two independent processes and one worker, turn by turn."""
        endless = ["--set", f"steps={WITHOUT_END}", "--set", f"checkpoint.every_steps={WITHOUT_END}"]
        sides: list[Side] = []
        try:
            for number, workers in enumerate(([2], [1, 1], [1])):
                runs = [self._scratch / f"run-{number}-{each}" for each in range(len(workers))]
                sides.append(Side(runs, workers, [*self._words, *endless]))
                sides[-1].warm_up(warmup)
            turns = 1 + math.ceil(seconds / turn)  # the last one is not counted
            for number in range(turns):
                _tell(f"training: turn {number + 1} of {turns}")
                for side in sides if number % 2 == 0 else reversed(sides):
                    side.turn(turn)
        finally:
            for side in sides:
                side.end()
        return [Round(*outcomes) for outcomes in zip(*(side.outcomes() for side in sides), strict=True)]


class Recognition:
    """Recognitions of the training split, so many times over."""

    def __init__(self, corpus: Path, run: Path, scratch: Path) -> None:
        self._run, self._scratch, self._input = run, scratch, f"{corpus}:{SPLIT}"
        self._audio = float(CorpusIndex.open(corpus, SPLIT).num_samples.sum()) / SAMPLE_RATE
        self._times = 1
        self._count = 0

    def calibrate(self, seconds: float) -> None:
        """Choose how often the split is recognised."""
        speed = self.measure([1]).speed
        self._times = max(1, math.ceil(seconds * speed / self._audio))
        _tell(f"recognition: {speed:.0f} audio s/s; {self._times} times {self._audio:.0f} s for one worker")

    def measure(self, workers: Sequence[int]) -> Outcome:
        """Recognitions by so many workers each, at the same time: the sum of their own speeds."""
        times = self._times * max(workers)
        self._count += 1  # an output that is there already would be gone on with
        started = [
            start("recognize", str(self._run), *[self._input] * times, "--out", str(out), "--workers", str(n))
            for number, n in enumerate(workers)
            for out in [self._scratch / f"hypotheses-{self._count}-{number}.jsonl"]
        ]
        told = [finish(process) for process in started]
        return Outcome(
            sum(answer["rtfx_steady"] for answer in told),
            min(answer["wall_seconds"] - answer["startup_seconds"] for answer in told),
            max(answer["startup_seconds"] for answer in told),
        )

    def rounds(self, count: int) -> list[Round]:
        """Two workers, two independent processes, one worker; again and again."""
        found = []
        for number in range(count):
            _tell(f"recognition: round {number + 1} of {count}")
            found.append(Round(self.measure([2]), self.measure([1, 1]), self.measure([1])))
        return found


def page(parts: dict[str, list[Round]], corpus: str, recipe: Path, words: Sequence[str]) -> str:
    """The page of results."""
    machine = describe()
    lines = [
        "# Two workers beside two independent processes",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/long/two_workers.py {' '.join(words)}`",
        f"- machine: {machine['cpu']}, {machine['cores']} cores; one thread a worker",
        f"- versions: Python {machine['python']}, torch {torch.__version__}",
        f"- corpus: {corpus}; training as in recipes/{recipe.name}, without keeping features in memory",
        "- audio seconds a second in steady state, medians of turns; ratios within a round of them, the "
        "least and largest too; start-up in seconds: of training to the end of its second step, of "
        "recognition until the first worker is ready",
        "",
        "| | turns | 2 workers | two independent | 1 worker | 2 workers / independent "
        "| 2 workers / 1 | steady state, s | start-up: 2 workers, independent, 1 |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(name, found) for name, found in parts.items()),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, found: Sequence[Round]) -> str:
    sides = ([r.two for r in found], [r.independent for r in found], [r.one for r in found])
    speeds = " | ".join(f"{statistics.median(o.speed for o in side):.1f}" for side in sides)
    startups = ", ".join(f"{statistics.median(o.startup for o in side):.1f}" for side in sides)
    least = min(sum(outcome.seconds for outcome in side) for side in sides)
    against = _ratio([r.two.speed / r.independent.speed for r in found])
    gain = _ratio([r.two.speed / r.one.speed for r in found])
    return f"| {name} | {len(found)} | {speeds} | {against} | {gain} | {least:.0f} at least | {startups} |"


def _ratio(ratios: Sequence[float]) -> str:
    return f"**{statistics.median(ratios):.3f}** ({min(ratios):.3f} to {max(ratios):.3f})"


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Measure, print, and with ``--out`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a prepared corpus; without one a synthetic one is made")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument(
        "--set", dest="settings", action="append", default=[], help="of the recipe: KEY=VALUE"
    )
    parser.add_argument("--seconds", type=float, default=75.0, help="of steady state, of each side")
    parser.add_argument("--turn", type=float, default=20.0, help="of a training, in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="of recognition")
    known = ["training", "recognition"]
    parser.add_argument("--part", nargs="+", choices=known, default=known)
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.seconds, asked.rounds = 1.0, 1
    parts = {}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        corpus = asked.corpus
        if corpus is None:
            corpus = scratch / "synthetic"
            finish(start("prepare", SYNTHETIC, str(corpus)))
        training = Training(corpus.absolute(), asked.recipe, asked.settings, scratch)
        if "training" in asked.part:
            warmup = 3 if asked.quick else WARMUP_STEPS
            parts["training"] = training.rounds(warmup, asked.seconds, min(asked.turn, asked.seconds))
        if "recognition" in asked.part:
            recognition = Recognition(corpus, training.model(WARMUP_STEPS), scratch)
            recognition.calibrate(asked.seconds)
            parts["recognition"] = recognition.rounds(asked.rounds)
    text = page(parts, corpus.name, asked.recipe, sys.argv[1:])
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
