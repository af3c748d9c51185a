"""``hocket fit-batch`` beside bisection: does training run within the limit, and how near?

For every limit: the size that fit-batch finds, a training run of it to the end under the limit, and the
largest size that a run survives without taking a step again, found by bisection over whole runs.

    python benchmarks/long/fit_batch.py RECIPE --limits 500 700 1000 [--epochs 1] [--out FILE.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import tempfile
from pathlib import Path

import torch

from hocket.core import events
from hocket.core.errors import HocketError
from hocket.hardware.device import cpu_name
from hocket.studies.fit_batch import fit_batch
from hocket.training.launch import resolve, train

ALIKE = ("validation.every_steps=0", "tensorboard=false")


def survives(recipe: Path, folder: Path, limit: int, seconds: float, epochs: float) -> tuple[bool, int]:
    """Whether a run to the end held to the limit, and how many steps it took again."""
    settings = (f"batch.seconds={seconds}", f"memory.limit_mb={limit}", "steps=null", f"epochs={epochs}")
    try:
        train(recipe, run=folder, workers=1, overrides=[*ALIKE, *settings])
    except HocketError:
        return False, 0
    again = [event for event in events.read(folder / "events.jsonl") if event["event"] == "out_of_memory"]
    return not again, len(again)


def main() -> None:
    """Measure, print, and with ``--out`` write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--limits", type=int, nargs="+", required=True)
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--out", type=Path)
    o = parser.parse_args()
    rows = []
    for limit in o.limits:
        found = fit_batch(resolve(o.recipe, []), limit_mb=limit, grow=True)
        with tempfile.TemporaryDirectory() as folder:
            ran, again = survives(o.recipe, Path(folder, "run"), limit, found.batch_seconds, o.epochs)
            low, high, number = found.batch_seconds, found.batch_seconds * 1.3, 0
            if not ran:
                low, high = found.batch_seconds / 1.3, found.batch_seconds
            while high / low > 1.03:
                middle, number = (low * high) ** 0.5, number + 1
                good, _ = survives(o.recipe, Path(folder, str(number)), limit, middle, o.epochs)
                low, high = (middle, high) if good else (low, middle)
        share = found.batch_seconds / low
        rows.append(
            f"| {limit} | {found.held_mb:.0f} | {found.micro_batch_seconds:.1f} s "
            f"| {'yes' if ran else 'no'} | {again} | {100 * share:.0f} % | {len(found.trials)} "
            f"| {found.seconds:.0f} s |"
        )
        sys.stderr.write(rows[-1] + "\n")
    text = "\n".join(
        [
            "# fit-batch beside bisection",
            "",
            f"- date: {datetime.date.today().isoformat()}",
            f"- command: `python {' '.join(sys.argv)}`",
            f"- machine: {cpu_name()}",
            f"- versions: Python {platform.python_version()}, torch {torch.__version__}",
            "",
            "| limit, MiB | held | micro-batch | ran to the end | steps again | of the largest | trials "
            "| took |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
        ]
    )
    sys.stdout.write(text + "\n")
    if o.out:
        o.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
