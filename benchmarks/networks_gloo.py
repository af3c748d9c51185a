"""Forecasts of gloo's collectives beside their times over real links, on hosts of this machine.

Hosts are network namespaces, joined as a star, as a tree whose leaf switches share one thin cable each, and
as a ring of hosts that pass on for others; every link is limited by ``tc tbf``. A forecast knows the wiring,
the links' rates with the headers of TCP and Ethernet, and two numbers that were measured between two hosts
before: the time of a message, and what a call of torch adds. Each row's error is |forecast - measured| over
measured; ``bytes`` is what left the first rank's host over what was forecast for its cables.

    python benchmarks/networks_gloo.py [--quick] [--link 100mbit] [--out benchmarks/results/NAME.md]

Needs root and iproute2; leaves with status 3 where they are missing. All ranks share this machine's
processors: keep it quiet, and the links slow enough.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from hocket.comms.links import Host, Hosts, Link, ranks, why_not
from hocket.comms.links.wiring import Wiring, ring, star, tree
from hocket.core import clock
from hocket.hardware.device import cpu_name
from hocket.planning import network as net

NOT_RUN = 3
BURST = 4 * 1514
"""Bytes that pass a limit at once: few packets, as on a cable of that rate."""
REPEATS = 5
SECONDS = 0.3
"""Calls are repeated back to back for about so long."""
SIZES = (4 << 10, 64 << 10, 1 << 20, 8 << 20)
HEAD = """\
# gloo's collectives over real links, forecast and measured

- date: {date}
- command: `{words}`
- machine: {cpu}, {cores} cores, {system}, Python {python}, torch {torch}
- links of {link} between network namespaces; a message takes {message:.0f} us, a call {start:.0f} us more,
  both measured between two hosts; median of {repeats} repeats

| hosts | ranks | collective | KiB | forecast, ms | measured, ms | error | bytes |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Site:
    """A wiring, and the network that stands for it in a forecast."""

    name: str
    hosts: int
    wiring: Wiring
    network: Callable[[net.Hosts, int], net.Network]
    orders: tuple[str, ...] = ("near",)


def sites(link: Link, hosts: int) -> list[Site]:
    half = hosts // 2
    return [
        Site(f"star of {hosts}", hosts, star, lambda cable, count: net.switch(count, cable)),
        Site(
            f"tree of 2 x {half}, {half}:1",
            hosts,
            tree(half, link),
            lambda cable, count: net.fat_tree(count, cable, net.Tree(half, oversubscription=half, spines=1)),
            ("near", "interleaved"),
        ),
        Site(
            f"ring of {hosts}",
            hosts,
            ring,
            lambda cable, count: net.ring(count, cable),
            ("near", "two apart"),
        ),
    ]


def ordered(order: str, hosts: int) -> list[int]:
    """The host of each rank."""
    if order == "interleaved":
        return [rank % 2 * (hosts // 2) + rank // 2 for rank in range(hosts)]
    if order == "two apart":
        return [*range(0, hosts, 2), *range(1, hosts, 2)]
    return list(range(hosts))


def run_once(collective: str, num_bytes: int) -> Callable[[], None]:
    """One call, on tensors that are made once."""
    rank, world = dist.get_rank(), dist.get_world_size()
    if collective == "all_reduce":
        x = torch.zeros(num_bytes // 4)
        return lambda: dist.all_reduce(x)
    if collective == "all_gather":
        mine = torch.zeros(num_bytes // 4 // world)
        parts = [torch.zeros_like(mine) for _ in range(world)]
        return lambda: dist.all_gather(parts, mine)
    out, into = torch.zeros(num_bytes // 4), torch.zeros(num_bytes // 4)

    def shift() -> None:
        sent = dist.isend(out, (rank + 1) % world)
        dist.recv(into, (rank - 1) % world)
        assert sent is not None
        sent.wait()

    return shift


def ping_pong(times: int) -> None:
    """Four bytes there and back."""
    x, other = torch.zeros(1), 1 - dist.get_rank()
    for _ in range(times):
        if dist.get_rank() == 0:
            dist.send(x, other)
            dist.recv(x, other)
        else:
            dist.recv(x, other)
            dist.send(x, other)


def work(host: Host, settings: dict[str, str], pipe: Connection) -> None:
    """A rank: it runs what it is told, ``times`` over, and says how long that took."""
    host.enter()
    os.environ.update(settings)
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    ready: dict[tuple[str, int], Callable[[], None]] = {}
    while (told := pipe.recv()) is not None:
        collective, num_bytes, times = told
        if collective != "ping_pong" and (collective, num_bytes) not in ready:
            ready = {(collective, num_bytes): run_once(collective, num_bytes)}
            ready[collective, num_bytes]()
        dist.barrier()
        start = clock.monotonic()
        if collective == "ping_pong":
            ping_pong(times)
        else:
            for _ in range(times):
                ready[collective, num_bytes]()
        pipe.send(clock.monotonic() - start)
    dist.destroy_process_group()


class Ranks:
    """Processes of a job, one on each host."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        forked = multiprocessing.get_context("fork")
        self.pipes: list[Any] = []
        self.processes = []
        for rank, host in enumerate(hosts):
            mine, theirs = forked.Pipe()
            process = forked.Process(
                target=work, args=(host, ranks.environment(rank, hosts), theirs), daemon=True
            )
            process.start()
            self.pipes.append(mine)
            self.processes.append(process)

    def run(self, collective: str, num_bytes: int, times: int) -> float:
        """Seconds of one call, on the slowest rank."""
        for pipe in self.pipes:
            pipe.send((collective, num_bytes, times))
        return max(pipe.recv() for pipe in self.pipes) / times

    def close(self) -> None:
        """End all ranks."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in self.processes:
            process.join(30)


def opened(stack: ExitStack, count: int, link: Link, wiring: Wiring, order: str) -> tuple[list[Host], Ranks]:
    hosts = stack.enter_context(Hosts(count, link, "hocket-gloo", wiring))
    at = [hosts[number] for number in ordered(order, count)]
    job = Ranks(at)
    stack.callback(job.close)
    return at, job


def calibrate(link: Link) -> tuple[float, float]:
    """Seconds of a message, and of a call beyond its messages, between two hosts."""
    with ExitStack() as stack:
        _, job = opened(stack, 2, link, star, "near")
        message = statistics.median(job.run("ping_pong", 4, 100) for _ in range(REPEATS)) / 2
        call = statistics.median(job.run("all_reduce", 4, 100) for _ in range(REPEATS))
    return message, max(0.0, call - 2 * message)


def rows(
    site: Site, order: str, link: Link, sizes: Sequence[int], message: float, start: float
) -> list[tuple[str, float]]:
    """Lines of the table, and their errors."""
    cable = net.Hosts(link=link.bits_per_second / 8, latency=0.0)
    network = site.network(cable, site.hosts)
    devices = ordered(order, site.hosts)
    calls = net.Transport("gloo", start, message, wire_bytes_per_byte=net.TCP_WIRE)
    found = []
    with ExitStack() as stack:
        at, job = opened(stack, site.hosts, link, site.wiring, order)
        for collective in ("all_reduce", "all_gather", "shift"):
            for size in sizes:
                transport = replace(calls, start_seconds=0.0) if collective == "shift" else calls
                forecast = net.cost(network, [devices], collective, size, "gloo", transport)
                times = max(1, min(50, round(SECONDS / forecast.seconds)))
                job.run(collective, size, 1)
                before = at[0].bytes_sent()
                took = [job.run(collective, size, times) for _ in range(REPEATS)]
                sent = (at[0].bytes_sent() - before) / (REPEATS * times)
                measured = statistics.median(took)
                error = abs(forecast.seconds - measured) / measured
                out = [number for number, each in enumerate(network.links) if each.source == devices[0]]
                line = (
                    f"| {site.name} | {order} | {collective} | {size >> 10} | {forecast.seconds * 1e3:.2f} "
                    f"| {measured * 1e3:.2f} | {error:.1%} | {sent / forecast.link_bytes_L[out].sum():.2f} |"
                )
                print(line, flush=True)
                found.append((line, error))
    return found


def main() -> int:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 hosts, two sizes: does it work?")
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--link", default="100mbit")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"links: {reason}: not run", file=sys.stderr)
        return NOT_RUN
    link = replace(Link.parse(asked.link), burst=BURST)
    message, start = calibrate(link)
    head = HEAD.format(
        date=datetime.date.today().isoformat(),
        words=" ".join(["python benchmarks/networks_gloo.py", *sys.argv[1:]]),
        cpu=cpu_name(),
        cores=os.cpu_count(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
        link=asked.link,
        message=message * 1e6,
        start=start * 1e6,
        repeats=REPEATS,
    )
    print(head, end="", flush=True)
    found = []
    for site in sites(link, 4 if asked.quick else asked.hosts):
        for order in site.orders:
            found += rows(site, order, link, SIZES[1:3] if asked.quick else SIZES, message, start)
    errors = sorted(error for _, error in found)
    tail = (
        f"\nMedian error {statistics.median(errors):.1%}, 90th percentile "
        f"{errors[round(0.9 * (len(errors) - 1))]:.1%}, of {len(errors)} rows.\n"
    )
    print(tail)
    if asked.out is not None:
        asked.out.write_text(head + "\n".join(line for line, _ in found) + "\n" + tail, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
