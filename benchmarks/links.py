"""Links of a given rate between hosts of this machine: does the limit hold, and do bytes cross it?

Hosts are network namespaces, each with a veth pair to one bridge, limited by ``tc tbf`` in both
directions. A connection of our own between two of them measures what arrives and how long a byte
takes; the interface's own counter says that the bytes went out there. ``hocket scale --links`` and
``benchmarks/long/strategies.py`` train over the same links.

    python benchmarks/links.py [--links 100mbit 1gbit] [--seconds 3] [--out benchmarks/results/NAME.md]

Needs root and iproute2; leaves with status 3 where they are missing.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
from pathlib import Path

from hocket.comms.links import Hosts, Link, why_not
from hocket.comms.links.throughput import measure
from hocket.core.errors import UsageError
from hocket.hardware.device import cpu_name

NOT_RUN = 3
HEAD = """\
# Links between hosts of one machine

- date: {date}
- command: `{words}`
- machine: {cpu}, {system}, Python {python}
- two hosts and a bridge (network namespaces, veth pairs), limited by `tc tbf`; one TCP connection

| link | carried, Mbit/s | of the limit | left the host, of what arrived | round trip, ms |
|---|---|---|---|---|
"""


def line(name: str, seconds: float) -> str:
    """A row of the table."""
    try:
        link = Link.parse(name)
        with Hosts(2, link, name="hocket-bench") as (one, other):
            before = one.bytes_sent()
            found = measure(one, other, seconds)
            sent = one.bytes_sent() - before
    except UsageError as error:
        return f"| {name} | not here: {error.hint} | | | |"
    return (
        f"| {name} | {found.bits_per_second / 1e6:.1f} | {found.bits_per_second / link.bits_per_second:.3f} "
        f"| {sent / found.num_bytes:.3f} | {found.round_trip_seconds * 1e3:.2f} |"
    )


def main() -> int:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--links", nargs="+", default=["10mbit", "100mbit", "1gbit", "100mbit+5ms"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"links: {reason}: not run", file=sys.stderr)
        return NOT_RUN
    text = HEAD.format(
        date=datetime.date.today().isoformat(),
        words=" ".join(["python benchmarks/links.py", *sys.argv[1:]]),
        cpu=cpu_name(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
    )
    text += "\n".join(line(name, asked.seconds) for name in asked.links) + "\n"
    sys.stdout.write(text)
    if asked.out is not None:
        asked.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
