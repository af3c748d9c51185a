"""Two workers beside one, and beside two independent processes that know nothing of each other.

Training (``--recipe`` on ``--corpus``) and recognition (its training split, again and again), one thread
each. Two independent processes are what two cores give when nothing has to be agreed on: two trainings
in folders of their own, two recognitions of the same list. The three take turns, each for ``--seconds``
of steady state; what counts are the medians of the ratios within a round. Features are not kept in
memory while training (``loading.cache_mb: 0``), so that no process becomes faster as it goes. Start-up is
not counted, and given apart.

    python benchmarks/long/two_workers.py [--corpus PREPARED] [--recipe recipes/an4.yaml] [--set KEY=VALUE]
        [--seconds 75] [--rounds 3] [--part training recognition] [--quick] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Start a command as a user does."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hocket", *words, "--json"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its answer."""
    out, err = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{process.args!r}:\n{out}{err}")
    answer: dict[str, Any] = json.loads(out)
    return answer


class Training:
    """Trainings of the same recipe; the steps are chosen to last long enough."""

    def __init__(
        self, corpus: Path, recipe: Path, settings: Sequence[str], scratch: Path, warmup: int = WARMUP_STEPS
    ) -> None:
        self._corpus, self._recipe, self._scratch, self._warmup = corpus, recipe, scratch, warmup
        self._settings = settings
        self._count = 0
        self._steps = 0

    def calibrate(self, seconds: float) -> Path:
        """Choose the steps of one worker; the run folder of this training, with a model in it."""
        (run,), begun = self._train([1], 2 * self._warmup + 6)
        ends, _frames = _timeline(run)
        per_step = (ends[-1] - ends[self._warmup]) / (len(ends) - 1 - self._warmup)
        self._steps = self._warmup + 2 + math.ceil(seconds / per_step)
        _tell(f"training: {per_step:.3f} s a step; first one after {ends[0] - begun:.1f} s")
        return run

    def measure(self, workers: Sequence[int]) -> Outcome:
        """Trainings of so many workers each, at the same time."""
        runs, begun = self._train(workers, self._warmup + max(workers) * (self._steps - self._warmup))
        timelines = [_timeline(run) for run in runs]
        first = max(ends[self._warmup] for ends, _ in timelines)
        last = min(ends[-1] for ends, _ in timelines)
        speeds = []
        for ends, frames in timelines:
            inside = [position for position, end in enumerate(ends) if first <= end <= last]
            if len(inside) < 2:
                raise RuntimeError("the trainings hardly ran at the same time: give more --seconds")
            learnt = sum(frames[inside[0] + 1 : inside[-1] + 1]) * HOP / SAMPLE_RATE
            speeds.append(learnt / (ends[inside[-1]] - ends[inside[0]]))
        return Outcome(sum(speeds), last - first, max(ends[0] for ends, _ in timelines) - begun)

    def _train(self, workers: Sequence[int], steps: int) -> tuple[list[Path], float]:
        """Run folders, and when they were begun."""
        self._count += 1
        runs = [self._scratch / f"run-{self._count}-{number}" for number in range(len(workers))]
        changes = [
            f"corpus={self._corpus}",
            f"steps={steps}",
            f"checkpoint.every_steps={steps}",
            "validation.every_steps=0",
            "loading.cache_mb=0",
            "threads=1",
            *self._settings,
        ]
        words = [word for change in changes for word in ("--set", change)]
        begun = time.time()
        started = [
            start("train", str(self._recipe), "--run", str(run), "--workers", str(count), *words)
            for run, count in zip(runs, workers, strict=True)
        ]
        for process in started:
            finish(process)
        return runs, begun


def _timeline(run: Path) -> tuple[list[float], list[int]]:
    """When steps ended, and what each learnt from in frames.

    A step is recorded when the next one has been computed, so what is recorded of a step is when the
    next one ended; of the first the end is not known, and left out.
    """
    told = events.surviving_steps(run / "events.jsonl")
    return [float(event["time"]) for event in told[:-1]], [int(event["num_frames"]) for event in told[1:]]


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


def rounds(what: str, measure: Callable[[Sequence[int]], Outcome], count: int) -> list[Round]:
    """Two workers, two independent processes, one worker; again and again."""
    found = []
    for _ in range(count):
        found.append(Round(measure([2]), measure([1, 1]), measure([1])))
        now = found[-1]
        _tell(
            f"{what}: 2 workers {now.two.speed:.1f}, independent {now.independent.speed:.1f}, "
            f"1 worker {now.one.speed:.1f} audio s/s; ratios {now.two.speed / now.independent.speed:.3f}, "
            f"{now.two.speed / now.one.speed:.3f}"
        )
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
        "- audio seconds a second in steady state, medians of rounds; ratios within a round, with the "
        "least and largest; start-up in seconds: of training to the end of its second step, of recognition "
        "until the first worker is ready",
        "",
        "| | rounds | 2 workers | two independent | 1 worker | 2 workers / independent "
        "| 2 workers / 1 | steady state, s | start-up: 2 workers, independent, 1 |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_line(name, found) for name, found in parts.items()),
    ]
    return "\n".join(lines) + "\n"


def _line(name: str, found: Sequence[Round]) -> str:
    sides = ([r.two for r in found], [r.independent for r in found], [r.one for r in found])
    speeds = " | ".join(f"{statistics.median(o.speed for o in side):.1f}" for side in sides)
    startups = ", ".join(f"{statistics.median(o.startup for o in side):.1f}" for side in sides)
    least = min(outcome.seconds for side in sides for outcome in side)
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
    parser.add_argument("--seconds", type=float, default=75.0, help="of steady state, about")
    parser.add_argument("--rounds", type=int, default=3)
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
        warmup = 2 if asked.quick else WARMUP_STEPS
        training = Training(corpus.absolute(), asked.recipe, asked.settings, scratch, warmup)
        run = training.calibrate(asked.seconds)
        if "training" in asked.part:
            parts["training"] = rounds("training", training.measure, asked.rounds)
        if "recognition" in asked.part:
            recognition = Recognition(corpus, run, scratch)
            recognition.calibrate(asked.seconds)
            parts["recognition"] = rounds("recognition", recognition.measure, asked.rounds)
    text = page(parts, corpus.name, asked.recipe, sys.argv[1:])
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
