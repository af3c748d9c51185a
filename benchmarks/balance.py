"""How evenly work is cut and dealt, beside lhotse's DynamicBucketingSampler.

Both ways get the same utterances, micro-batches of as much audio, and as many of them a step. What
counts is padding, and the slowest over the mean rank of each step in predicted cost, by the number of
ranks; lhotse also with the best settings of a small grid at each. Then: degrees that do not divide the
micro-batches of a step, real times of a small model (``--measure``), and ten million utterances
(``--millions``). Without arguments, generated durations alone.

    python benchmarks/balance.py [--an4 CORPUS] [--speechocean CORPUS] [--measure] [--millions 10]
        [--only ours] [--out benchmarks/results/NAME.md]

CORPUS is a prepared folder, or a table (``.jsonl``) with id, duration, text and perhaps split.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import lhotse
import numpy as np
import torch
from balancing import lengths
from balancing.sections import (
    INTRODUCTION,
    Answer,
    Case,
    draw,
    measured_section,
    millions_section,
    section,
)
from balancing.ways import Epoch, Ours, Theirs, as_cuts

from hocket.core.cost import CostModel
from hocket.hardware.device import cpu_name
from hocket.model import ModelConfig, workload

ODD_DEGREES = (3, 5, 6, 7, 12, 24, 48)


def cases(options: argparse.Namespace) -> list[Case]:
    """Those asked for."""
    generated = lengths.generated(20_000)
    found = [
        Case(
            "20,000 log-normal durations",
            generated,
            Ours(50.0, 128),
            (Ours(25.0, 64, 32), Ours(25.0, 64, 150), Ours(100.0, 64)),
            grid(),
            1,
        )
    ]
    if options.speechocean:
        others = (Ours(12.5, 8, 100), Ours(25.0, 64), Ours(25.0, 128))
        read = lengths.read(options.speechocean)
        found.append(Case("speechocean762-train", read, SPEECHOCEAN, others, grid(join=8), 5))
    if options.an4:
        found.append(Case("AN4", lengths.read(options.an4), AN4, (Ours(27.0, 4, 100),), grid(), 5))
    return found


SPEECHOCEAN = Ours(6.75, 512)
AN4 = Ours(13.5, 4, 100)


def grid(join: int = 1) -> tuple[Theirs, ...]:
    """Settings of lhotse's sampler. The first is the reference: all else as most have it."""
    found = (
        Theirs(),
        Theirs(num_buckets=10),
        Theirs(num_buckets=100),
        Theirs(quadratic_duration=30.0),
        Theirs(num_buckets=100, quadratic_duration=30.0),
        Theirs(num_buckets=100, quadratic_duration=30.0, sync_buckets=False),
        Theirs(drop_last=False),
        Theirs(buffer_size=5000),
        Theirs(max_cuts=64),
    )
    joined = tuple(replace(one, join=join) for one in found)
    return joined if join == 1 else (*joined, Theirs(), Theirs(num_buckets=100, quadratic_duration=30.0))


def dividing(micro_batches: int) -> list[int]:
    """Degrees up to 64 that divide this number."""
    return [degree for degree in range(2, 65) if micro_batches % degree == 0]


def run(case: Case, cost: CostModel, only_ours: bool) -> Answer:
    """Everything of a case that is predicted."""
    degrees = dividing(case.ours.micro_batches_per_step)
    odd = [degree for degree in ODD_DEGREES if degree not in degrees and degree <= max(degrees)]
    all_ours = case.ours.epochs(case.lengths, cost, [*degrees, *odd], case.epochs)
    ours, others = all_ours[: len(degrees)], all_ours[len(degrees) :]
    unrounded = replace(case.ours, frame_multiple=1).epochs(case.lengths, cost, degrees, case.epochs)
    hardest = [
        o.epochs(case.lengths, cost, dividing(o.micro_batches_per_step), case.epochs) for o in case.hardest
    ]
    theirs: dict[int, list[Epoch]] = {}
    if not only_ours:
        cuts = as_cuts(case.lengths)
        for degree in degrees:
            theirs[degree] = [row.epoch(cuts, case.lengths, cost, degree, case.ours) for row in case.theirs]
    return Answer(ours, unrounded, others, hardest, theirs)


def main() -> None:
    """Measure and print; with ``--out`` also write, and draw beside it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--an4", type=Path)
    parser.add_argument("--speechocean", type=Path)
    parser.add_argument("--only", choices=["ours"], help="leave lhotse's grid out")
    parser.add_argument(
        "--measure", type=int, default=0, metavar="STEPS", help="time so many steps of each corpus"
    )
    parser.add_argument("--millions", type=int, default=0, metavar="COUNT", help="plan over so many million")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="lhotse")  # that cuts are in memory, that one alone is too long
    cost = workload.cost(ModelConfig.model_validate({"preset": "tiny", "vocab_size": 32}))
    lines = [
        "# Balance beside lhotse's DynamicBucketingSampler",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/balance.py {' '.join(sys.argv[1:])}`",
        f"- machine: {cpu_name()}, one thread",
        f"- versions: Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, "
        f"lhotse {lhotse.__version__}",
        f"- predicted cost: the tiny preset's, `{json.dumps(cost.as_dict())}`",
        "",
        INTRODUCTION,
    ]
    if options.out and options.only is None:
        lines += [f"![Time lost by number of ranks]({options.out.with_suffix('.svg').name})", ""]
    found = cases(options)
    answers = [(case, run(case, cost, options.only == "ours")) for case in found]
    for case, answer in answers:
        lines += section(case, answer)
    if options.measure:
        lines += measured_section(found, options.measure)
    if options.millions:
        lines += millions_section(options.millions * 1_000_000)
    text = "\n".join(lines)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
        if options.only is None:
            options.out.with_suffix(".svg").write_text(draw(answers), encoding="utf-8")


if __name__ == "__main__":
    main()
