"""Training speed beside ``transformers.Trainer``: audio seconds a second on two processes.

``hocket train --workers 2`` and ``transformers.Trainer`` (torchrun, DDP over gloo) train
``ParakeetForCTC`` of the same shape and dropout, from the same weights, on the same utterances, with the
same optimiser, as many steps, one thread a process; neither augments. Trainer groups by length, finds its
features ready in memory, and has the number of loader workers that is best for it; what it need not do
(logs, checkpoints, buffers of batch norm) is off. hocket does all that a run does. They take turns, and
what counts is the median of the ratios of neighbouring trainings, in steady state: after a whole epoch,
when hocket has its features in memory, too.

    python benchmarks/trainer_peer [--corpus PREPARED] [--preset small medium] [--precision fp32 bf16]
        [--pairs 3] [--peer-as-ours] [--peer-norm layer] [--quick] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import corpus
import page
from sides import PROCESSES, Case, Peer, matrix_rate, run_hocket, run_peer

STEPS = {"small": 200, "medium": 80}
"""Optimiser steps; other presets take 80."""
LOADER_WORKERS = (0, 1, 2)


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="a prepared corpus; without one a synthetic one is made")
    parser.add_argument("--preset", nargs="+", default=["small", "medium"])
    parser.add_argument("--precision", nargs="+", choices=["fp32", "bf16"], default=["fp32", "bf16"])
    parser.add_argument("--utterances", type=int, default=8, help="of a process and step")
    parser.add_argument("--epoch-steps", type=int, default=40, help="so many steps are an epoch")
    parser.add_argument("--steps", type=int, help="of every training; by preset, if not given")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument(
        "--peer-as-ours", action="store_true", help="with the allocator and kernel cache that ours get"
    )
    norms = ["batch", "layer"]
    parser.add_argument("--peer-norm", choices=norms, default="batch", help="ours is layer norm")
    parser.add_argument("--quick", action="store_true", help="whether it works, not how fast")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def contest(asked: argparse.Namespace, case: Case, part: corpus.Part, scratch: Path) -> page.Row:
    """Tune the peer's loader, then let the sides take turns."""
    peer = Peer(asked.peer_as_ours, asked.peer_norm)
    tuning = Case(case.preset, case.precision, case.utterances, case.warmup // 4 + 16, case.warmup // 4)
    tuned = {
        count: run_peer(tuning, part, scratch / f"tune-{count}", count, peer).speed
        for count in (LOADER_WORKERS[:2] if asked.quick else LOADER_WORKERS)
    }
    best = max(tuned, key=lambda count: tuned[count])
    _tell(f"{case.preset} {case.precision}: loader workers, audio s/s {tuned}: {best}")
    ours, theirs, rates = [], [], []
    for number in range(asked.pairs):
        rates.append(matrix_rate(case.precision))
        ours.append(run_hocket(case, part, scratch / f"hocket-{number}"))
        theirs.append(run_peer(case, part, scratch / f"peer-{number}", best, peer))
        _tell(
            f"{case.preset} {case.precision}: hocket {ours[-1].speed:.1f}, Trainer {theirs[-1].speed:.1f} "
            f"audio s/s, ratio {ours[-1].speed / theirs[-1].speed:.3f}; loss {ours[-1].steps[-1].loss:.3f}, "
            f"{theirs[-1].steps[-1].loss:.3f}; matrix rate {rates[-1] / 1e9:.0f} GFLOP/s"
        )
    return page.Row(case, tuned, best, ours, theirs, statistics.median(rates))


def main() -> None:
    """Measure, print, and with ``--out`` write."""
    asked = options()
    if asked.quick:
        asked.preset, asked.pairs, asked.utterances, asked.epoch_steps = asked.preset[:1], 1, 2, 8
        asked.steps = asked.steps or 3 * asked.epoch_steps
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        prepared = asked.corpus or corpus.synthetic(scratch)
        part = corpus.take(prepared, asked.utterances * PROCESSES * asked.epoch_steps, scratch)
        for preset in asked.preset:
            for precision in asked.precision:
                steps = asked.steps or STEPS.get(preset, 80)
                case = Case(preset, precision, asked.utterances, steps, asked.epoch_steps)
                rows.append(contest(asked, case, part, scratch / f"{preset}-{precision}"))
    name = "synthetic" if asked.corpus is None else asked.corpus.name
    text = page.write(rows, part, name, sys.argv[1:], asked.epoch_steps)
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
