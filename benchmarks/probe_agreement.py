"""Do two probes of one machine agree within the spread that they state?

Two probes, one after the other. A figure agrees when the ranges of its rounds meet. Also says by how much
the medians differ, and how noisy the machine was in each.

    python benchmarks/probe_agreement.py [--quick] [--seconds 75] [--workers 2] [--out FILE]

Give the machine to it alone.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from hocket.hardware import probing
from hocket.hardware.profile import Figure, MachineProfile
from hocket.model import ModelConfig, workload

HEAD = """\
# Two probes of one machine

- date: {date}
- command: `{words}`
- machine: {cpu}, {cores} cores, {system}, Python {python}, torch {torch}
- took {took} s; rounds {rounds}; the reference product spread by {noise}

| figures of | how many | ranges meet | medians apart, median | at most |
|---|---|---|---|---|
"""


def figures(machine: MachineProfile) -> Iterator[tuple[str, str, Figure]]:
    """Kind, name and figure of all that was measured."""
    yield "memory", "one", machine.memory.bandwidth_one
    yield "memory", "all", machine.memory.bandwidth_all
    for device in machine.devices:
        for rate in device.products:
            name = f"{device.name} {rate.dtype} {rate.name}"
            yield "products", f"{name} alone", rate.alone
            yield "products", f"{name} together", rate.together
    for each in machine.collectives:
        for timing in each.timings:
            yield "messages", f"{each.operation} {each.world_size} {timing.num_bytes}", timing.seconds
    for read in machine.storage.rates:
        yield f"{read.cache} reads", f"{read.pattern} {read.readers}", read.bytes_per_second


def rows(one: MachineProfile, other: MachineProfile) -> Iterator[str]:
    """A row for each kind, and one for all."""
    pairs: dict[str, list[tuple[Figure, Figure]]] = {}
    for (kind, _, left), (_, _, right) in zip(figures(one), figures(other), strict=True):
        pairs.setdefault(kind, []).append((left, right))
        pairs.setdefault("all", []).append((left, right))
    pairs["all"] = pairs.pop("all")
    for kind, several in pairs.items():
        apart = [abs(left.median / right.median - 1) for left, right in several]
        agree = sum(left.agrees(right) for left, right in several)
        yield (
            f"| {kind} | {len(several)} | {agree} | {100 * statistics.median(apart):.1f} % "
            f"| {100 * max(apart):.0f} % |"
        )


def main() -> int:
    """Probe twice and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Ten seconds each: does it work?")
    parser.add_argument("--seconds", type=float, default=75.0)
    parser.add_argument("--workers", type=int, default=probing.default_workers())
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    shapes = {
        name: workload.typical_products(ModelConfig(preset=name))[0]
        for name in ("tiny", "base", "large", "xlarge")
    }
    settings = probing.ProbeSettings(
        given.workers, given.folder, 10.0 if given.quick else given.seconds, shapes
    )
    one, other = (probing.probe(settings) for _ in range(2))
    text = HEAD.format(
        date=datetime.date.today().isoformat(),
        words=" ".join(["python", *sys.argv]),
        cpu=one.host.cpu,
        cores=one.host.cores,
        system=one.host.system,
        python=platform.python_version(),
        torch=torch.__version__,
        took=" and ".join(f"{each.took_seconds:.0f}" for each in (one, other)),
        rounds=" and ".join(str(each.rounds) for each in (one, other)),
        noise=" and ".join(f"{100 * each.noise.reference.spread:.0f} %" for each in (one, other)),
    )
    text += "\n".join(rows(one, other)) + "\n"
    print(text)
    if given.out is not None:
        given.out.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
