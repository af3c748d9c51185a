"""``hocket fit-batch`` beside bisection: does training run within the limit, and how near?

On each corpus, with an outlier three times as long as its longest utterance, and for every limit: the size
that fit-batch finds, a training run of it to the end under the limit, and the largest size that a run
survives without taking a step again, found by bisection over whole runs. It goes on where it ended.

    python benchmarks/long/fit_batch.py [--manifest JSONL ...] [--limits 1000 1200 1500] [--steps 30]
        [--folder runs/fit-batch] [--page benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from training_runs import SYNTHETIC, corpus_in, events_of, give, head, trained, with_outlier

from hocket.core import files
from hocket.core.errors import HocketError, UsageError
from hocket.studies.fit_batch import fit_batch
from hocket.studies.recipes import shipped
from hocket.training.launch import resolve

ALIKE = (
    "validation.every_steps=0", "checkpoint.every_steps=1000000", "tensorboard=false", "loading.cache_mb=64"
)  # fmt: skip
CLOSE = 1.03
"""Where bisection ends."""
OUTLIER = 3.0


@dataclass(frozen=True)
class Ran:
    """What came of a run under a limit."""

    ended: bool
    num_again: int
    """Steps that were taken again."""
    peak_mb: float | None
    steps_per_epoch: int | None


class Limited:
    """Runs of a recipe on a corpus under one limit."""

    def __init__(self, recipe: Path, corpus: Path, folder: Path, limit: int, steps: int) -> None:
        self._recipe, self._folder = recipe, folder / str(limit)
        self.limit = limit
        self._alike = (*ALIKE, f"corpus={json.dumps(str(corpus))}", f"steps={steps}")

    def fitted(self) -> dict[str, float]:
        """What fit-batch finds."""
        kept = self._folder / "fitted.json"
        if not kept.is_file():
            found = fit_batch(
                resolve(self._recipe, self._alike),
                limit_mb=self.limit,
                grow=True,
                say=lambda text: print(text, file=sys.stderr, flush=True),
            )
            told = {
                "batch_seconds": found.batch_seconds,
                "micro_batch_seconds": found.micro_batch_seconds,
                "held_mb": found.held_mb,
                "trials": len(found.trials),
                "seconds": found.seconds,
            }
            files.write_json(kept, told)
        answer: dict[str, float] = json.loads(kept.read_text())
        return answer

    def ran(self, seconds: float) -> Ran:
        """A run with steps of so many seconds of audio."""
        settings = (f"batch.seconds={seconds:.3f}", f"memory.limit_mb={self.limit}")
        kept = self._folder / f"{seconds:.3f}.failed"
        if kept.is_file():
            return Ran(False, 0, None, None)
        try:
            run = trained(self._recipe, self._folder, f"{seconds:.3f}", 1, *self._alike, *settings)
        except HocketError as error:
            files.write_text(kept, f"{error}\n")
            return Ran(False, 0, None, None)
        peak = json.loads((run / "summary.json").read_text())["peak_mb"]
        [start, *_] = events_of(run, "start")
        return Ran(True, len(events_of(run, "out_of_memory")), peak, int(start["steps_per_epoch"]))

    def largest(self, near: float) -> float:
        """The largest step that survives without taking one again, by bisection from ``near`` on."""
        low = high = near
        if self._survives(near):
            while self._survives(high := high * 1.15):
                low = high
                if self.ran(low).steps_per_epoch == 1:
                    return low  # a step is a whole epoch
        else:
            while not self._survives(low := low / 1.15):
                high = low
        while high / low > CLOSE:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self._survives(middle) else (low, middle)
        return low

    def _survives(self, seconds: float) -> bool:
        ran = self.ran(seconds)
        return ran.ended and not ran.num_again


def row(name: str, limited: Limited) -> str:
    """A line of the table."""
    try:
        fitted = limited.fitted()
    except UsageError as error:  # not even the smallest
        return f"| {name} | {limited.limit} | {error.message} | | | | | | | |"
    seconds = fitted["batch_seconds"]
    ran, largest = limited.ran(seconds), limited.largest(seconds)
    peak = "" if ran.peak_mb is None else f"{ran.peak_mb:.0f}"
    share = seconds / largest
    if ran.steps_per_epoch and (fewest := limited.ran(largest).steps_per_epoch):
        share = fewest / ran.steps_per_epoch  # of several seconds that come to the same steps
    return (
        f"| {name} | {limited.limit} | {fitted['held_mb']:.0f} | {fitted['micro_batch_seconds']:.1f} s "
        f"| {'yes' if ran.ended else 'no'} | {ran.num_again} | {peak} | {100 * share:.0f} % "
        f"| {fitted['trials']:.0f} | {fitted['seconds']:.0f} s |"
    )


def main() -> None:
    """Measure what is not there yet, print, and with ``--page`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", type=Path, default=shipped("an4-study"))
    parser.add_argument("--manifest", type=Path, nargs="*", default=[], help="of audio at 16 kHz")
    parser.add_argument("--limits", type=int, nargs="+", default=[1000, 1200, 1500])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--folder", type=Path, default=Path("runs/fit-batch"))
    parser.add_argument("--page", type=Path)
    o = parser.parse_args()
    corpora = {
        each.parent.name: with_outlier(each, o.folder / each.parent.name, OUTLIER) for each in o.manifest
    }
    if not corpora:
        corpora = {"synthetic": corpus_in(o.folder / "synthetic", SYNTHETIC)}
    rows = []
    for name, corpus in corpora.items():
        for limit in o.limits:
            rows.append(row(name, Limited(o.recipe, corpus, o.folder / name, limit, o.steps)))
            print(rows[-1], file=sys.stderr, flush=True)
    lines = [
        *head("fit-batch beside bisection"),
        "Sizes of `batch.seconds` with the recipe's number of micro-batches, one worker.",
        "",
        "| corpus | limit, MiB | held | micro-batch | ran to the end | steps again | most held "
        "| of the largest | trials | took |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    give(lines, o.page)


if __name__ == "__main__":
    main()
