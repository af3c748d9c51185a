"""Collectives on networks of 16 to 256 hosts: hocket's forecast beside SimGrid's simulation.

SimGrid's SMPI replays the collective of an MPI program by its own code of the algorithm of that name
(``smpi/allreduce:lr`` and so on) on its own platforms (``FAT_TREE`` and ``TORUS`` clusters, with its own
routes) and simulates every message. Its factors of bandwidth and latency are 1, and nothing but the network
takes time. Only the links' rate and latency and the degrees are the same on both sides.

A send ends when its message has arrived, whatever its size. By default SMPI lets go of sends below 64 KiB at
once: the root of a binomial broadcast then has its messages to all its children under way together, which
share its link, and each comes as late as the last (34 % later over 16 hosts, at 32 KiB). That is a protocol,
not the algorithm of the same name; other collectives here wait for what they receive, and do not change.

    python benchmarks/networks_simgrid.py [--quick] [--hosts 16 64 256] [--out benchmarks/results/NAME.md]

Needs SimGrid's ``smpirun`` (Debian: ``apt-get install libsimgrid-dev``); leaves with status 3 without it.
SimGrid prints whole microseconds. One thread.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

from hocket.core import clock
from hocket.hardware.device import cpu_name
from hocket.planning import network as net

NOT_RUN = 3
LINK = 1.25e9
LATENCY = 10e-6
SIZES = (1 << 10, 32 << 10, 1 << 20, 32 << 20, 1 << 30)
PINNED = {
    ("all_reduce", "ring"): "smpi/allreduce:lr",
    ("all_reduce", "halving_doubling"): "smpi/allreduce:rab_rdb",
    ("all_reduce", "recursive_doubling"): "smpi/allreduce:rdb",
    ("all_gather", "ring"): "smpi/allgather:NTSLR",
    ("all_gather", "recursive_doubling"): "smpi/allgather:rdb",
    ("broadcast", "binomial"): "smpi/bcast:binomial_tree",
}
"""Our algorithm, and the same by SimGrid's name.

What SimGrid calls the ring of an all-gather sends to who is 1, 2, ... places on; in NTSLR, its logical ring,
everybody passes on to the next.
"""
_TYPE = 6  # MPI_BYTE in SimGrid's traces
FACTORS = (
    "network/model:CM02",
    "network/bandwidth-factor:1",
    "network/latency-factor:1",
    "network/weight-S:0",
    "network/TCP-gamma:0",
    "network/crosstraffic:0",
    "smpi/send-is-detached-thresh:0",
)
PLATFORM = """\
<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="hosts" prefix="host-" radical="0-{last}" suffix="" speed="1Gf" bw="{bandwidth}Bps"
           lat="{latency}s" topology="{topology}" topo_parameters="{parameters}"/>
</platform>
"""
HEAD = """\
# Collectives on networks, beside SimGrid

- date: {date}
- command: `{words}`
- machine: {cpu}, {system}, Python {python}; SimGrid {simgrid} (SMPI, {factors}), algorithms by name
- links of 10 Gbit/s and 10 us

"""


@dataclass(frozen=True)
class Site:
    """One network, as hocket and as SimGrid has it."""

    name: str
    network: net.Network
    topology: str
    parameters: str


def sites(hosts: int) -> list[Site]:
    side = isqrt(hosts)
    cable = net.Hosts(link=LINK, latency=LATENCY)
    found = []
    for over in (1, 4):
        tree = net.fat_tree(hosts, cable, net.Tree(side, oversubscription=over))
        found.append(Site(f"fat-tree 1:{over}", tree, "FAT_TREE", f"2;{side},{side};1,{side // over};1,1"))
    found.append(Site("torus", net.torus((side, side), cable), "TORUS", f"{side},{side}"))
    return found


def simulated(site: Site, collective: str, option: str, num_bytes: int, folder: Path) -> float:
    """Seconds that SimGrid says."""
    hosts = site.network.num_devices
    part = num_bytes // hosts
    action = {
        "all_reduce": f"allreduce {num_bytes} 0 {_TYPE}",
        "all_gather": f"allgather {part} {part} {_TYPE} {_TYPE}",
        "broadcast": f"bcast {num_bytes} 0 {_TYPE}",
    }[collective]
    for rank in range(hosts):
        trace = f"{rank} init\n{rank} {action}\n{rank} finalize\n"
        (folder / f"trace-{rank}").write_text(trace, encoding="utf-8")
    (folder / "traces").write_text("".join(f"{folder}/trace-{rank}\n" for rank in range(hosts)))
    (folder / "hosts").write_text("".join(f"host-{rank}\n" for rank in range(hosts)))
    text = PLATFORM.format(
        last=hosts - 1,
        bandwidth=int(LINK),
        latency=LATENCY,
        topology=site.topology,
        parameters=site.parameters,
    )
    (folder / "platform.xml").write_text(text)
    words = [
        "smpirun",
        "-np",
        str(hosts),
        "-platform",
        "platform.xml",
        "-hostfile",
        "hosts",
        "-replay",
        "traces",
    ]
    words += [f"--cfg={factor}" for factor in (*FACTORS, option)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    said = re.findall(r"Simulation time (\d+\.\d+)", done.stdout + done.stderr)
    if done.returncode or not said:
        raise SystemExit(f"smpirun failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return float(said[-1])


def version() -> str:
    done = subprocess.run(["smpirun", "-version"], capture_output=True, text=True, check=False)
    found = re.search(r"\d+\.\d+(?:\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "of unknown version"


def compare(counts: Sequence[int], sizes: Sequence[int]) -> list[tuple[str, str, float]]:
    """Lines of the table, the names of their networks, and their errors."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for hosts in counts:
            for site in sites(hosts):
                for (collective, algorithm), option in PINNED.items():
                    for size in sizes:
                        start = clock.monotonic()
                        group = range(hosts)
                        mine = net.cost(site.network, [group], collective, size, algorithm).seconds
                        middle = clock.monotonic()
                        theirs = simulated(site, collective, option, size, folder)
                        took = clock.monotonic() - middle
                        error = abs(mine - theirs) / theirs
                        line = (
                            f"| {site.name} | {hosts} | {collective} | {algorithm} | {size >> 10} "
                            f"| {mine * 1e3:.3f} | {theirs * 1e3:.3f} | {error:.1%} |"
                        )
                        print(f"{line} {middle - start:.2f} s, {took:.2f} s", flush=True)
                        rows.append((line, f"{site.name}, {hosts} hosts", error))
    return rows


def percentile(errors: Sequence[float], share: float) -> float:
    return sorted(errors)[round(share * (len(errors) - 1))]


def summary(rows: Sequence[tuple[str, str, float]]) -> str:
    """Errors by network."""
    text = "| network | rows | median error | 90th percentile | largest | within 10 % |\n"
    text += "|---|---|---|---|---|---|\n"
    for name in dict.fromkeys([row[1] for row in rows] + ["all"]):
        errors = [error for _, of, error in rows if name in (of, "all")]
        near = sum(error <= 0.1 for error in errors)
        text += (
            f"| {name} | {len(errors)} | {statistics.median(errors):.1%} | {percentile(errors, 0.9):.1%} "
            f"| {max(errors):.1%} | {near} |\n"
        )
    return text


def main() -> int:
    """Compare and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="16 hosts, two sizes: does it work?")
    parser.add_argument("--hosts", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if shutil.which("smpirun") is None:
        print("smpirun not found (Debian: apt-get install libsimgrid-dev): not run", file=sys.stderr)
        return NOT_RUN
    head = HEAD.format(
        date=datetime.date.today().isoformat(),
        words=" ".join(["python benchmarks/networks_simgrid.py", *sys.argv[1:]]),
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        simgrid=version(),
        factors=", ".join(FACTORS),
    )
    rows = compare([16], SIZES[1:3]) if asked.quick else compare(asked.hosts, asked.sizes)
    columns = "\n| network | hosts | collective | algorithm | KiB | hocket, ms | SimGrid, ms | error |\n"
    text = (
        head + summary(rows) + columns + "|---|---|---|---|---|---|---|---|\n" + "\n".join(r[0] for r in rows)
    )
    print(text)
    if asked.out is not None:
        asked.out.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
