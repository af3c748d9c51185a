"""The same training on 1, 2, 3 and 4 workers: ``recipes/parity.yaml``, in float32 and exact.

Prints, against one worker, the largest relative difference of a step's loss and gradient norm, and
whether the weights are equal bit for bit. More processes than cores: this measures correctness.

    python benchmarks/worker_parity.py [--workers 1 2 3 4] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hocket.core import events
from hocket.hardware.device import describe

RECIPE = Path(__file__).parent.parent / "recipes" / "parity.yaml"
SOURCE = "synthetic:utterances=400"


def hocket(*words: str) -> dict[str, Any]:
    """Run a command as a user does; its answer."""
    done = subprocess.run(
        [sys.executable, "-m", "hocket", *words, "--json"], check=True, capture_output=True, text=True
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def train(corpus: Path, run: Path, workers: int, exact: bool) -> tuple[dict[str, Any], list[events.Event]]:
    """One training, and its steps."""
    told = hocket(
        "train", str(RECIPE), "--run", str(run), "--workers", str(workers),
        "--set", f"corpus={corpus}", "--set", f"numerics.exact={str(exact).lower()}",
    )  # fmt: skip
    return told, events.surviving_steps(run / "events.jsonl")


def apart(steps: list[events.Event], reference: list[events.Event], name: str) -> float:
    """Largest relative difference of a number over all steps."""
    return max(abs(a[name] - b[name]) / abs(b[name]) for a, b in zip(steps, reference, strict=True))


def main() -> None:
    """Run all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        hocket("prepare", SOURCE, str(corpus))
        for exact in (False, True):
            reference: tuple[dict[str, Any], list[events.Event]] | None = None
            for workers in options.workers:
                told, steps = train(corpus, Path(folder) / f"{exact}-{workers}", workers, exact)
                reference = reference or (told, steps)
                same = told["weights_sha256"] == reference[0]["weights_sha256"]
                rows.append(
                    f"| {'exact' if exact else 'fp32'} | {workers} | {len(steps)} "
                    f"| {apart(steps, reference[1], 'loss'):.1e} "
                    f"| {apart(steps, reference[1], 'grad_norm'):.1e} "
                    f"| {'equal' if same else 'differ'} | {told['weights_sha256'][:12]} "
                    f"| {told['wall_seconds']:.0f} |"
                )
                print(rows[-1], flush=True)
    page = "\n".join(
        [
            f"# The same training on {', '.join(map(str, options.workers))} workers",
            "",
            f"`python benchmarks/worker_parity.py`, {datetime.date.today()}; {json.dumps(describe())}",
            "",
            f"`recipes/parity.yaml` on `{SOURCE}`: dropout, speed perturbation and SpecAugment on, 12",
            "micro-batches a step. Largest relative difference of any step against one worker.",
            "",
            "| sums | workers | steps | loss | gradient norm | weights | sha256 | seconds |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
        ]
    )
    if options.out is not None:
        options.out.write_text(page)


if __name__ == "__main__":
    main()
