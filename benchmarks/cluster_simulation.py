"""How long the simulation of a large cluster takes: steps of a thousand ranks and more, with stragglers.

Every point is built from nothing: an oversubscribed fat-tree of that many hosts, the costs of the buckets'
all-reduces on it by the fastest algorithm, and the steps.

    python benchmarks/cluster_simulation.py [--ranks 64 1024 4096] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from pathlib import Path

from hocket.core import clock
from hocket.hardware.device import cpu_name
from hocket.planning.network import parse
from hocket.planning.simulation import Stragglers, Work, curve

SPEC = "fat-tree:leaf=32,oversubscription=4,link=25Gbit,latency=2us"
WORK = Work(0.12, 0.24, 0.01, (25e6,) * 16)
STRAGGLERS = Stragglers(spread=0.05, share=0.001, factor=3.0)
STEPS = 200
HEAD = """\
# Simulating a large cluster

- date: {date}
- command: `{words}`
- machine: {cpu}, {system}, Python {python}, one thread
- network: `{spec}`
- {steps} steps of 0.37 s of computing and 16 buckets of 25 MB; every rank's time varies by 5 %, and one in a
  thousand takes three times as long

| ranks | simulated in, s of a core | step, ms | computing | waiting for the slowest | exposed | efficiency |
|---|---|---|---|---|---|---|
"""


def main() -> int:
    """Simulate and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ranks", nargs="+", type=int, default=[64, 256, 1024, 2048, 4096])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    text = HEAD.format(
        date=datetime.date.today().isoformat(),
        words=" ".join(["python benchmarks/cluster_simulation.py", *sys.argv[1:]]),
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        spec=SPEC,
        steps=STEPS,
    )
    for ranks in asked.ranks:
        start = clock.busy()
        (point,) = curve(parse(SPEC), [ranks], lambda count: WORK, STEPS, STRAGGLERS)
        took, found = clock.busy() - start, point.simulated
        text += (
            f"| {ranks} | {took:.1f} | {found.seconds * 1e3:.0f} | {found.compute / found.seconds:.0%} "
            f"| {found.wait / found.seconds:.0%} | {found.exposed_comm / found.seconds:.0%} "
            f"| {point.efficiency:.2f} |\n"
        )
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
