"""What the kernel is asked for: namespaces, pairs of interfaces, their limits (ip-netns(8), tc-tbf(8))."""

from __future__ import annotations

import subprocess

from hocket.comms.links.rate import Link
from hocket.core.errors import RunError, UsageError

INTERFACE = "eth0"
"""The interface that has a host's address."""
_QUEUE = "50ms"


def run(*words: str) -> str:
    """What a command printed; raises :class:`RunError` with what it complained of."""
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RunError(f"{' '.join(words)}: {done.stderr.strip() or f'left with status {done.returncode}'}")
    return done.stdout


def cable(one: str, device: str, other: str, far_device: str, link: Link) -> None:
    """Join two namespaces: ``device`` in ``one``, ``far_device`` in ``other``, both limited by ``link``.

    A delay is added on the way out of ``one``.
    """
    pair = ["type", "veth", "peer", "name", far_device, "netns", other]
    run("ip", "-n", one, "link", "add", device, *pair)
    for namespace, end in ((one, device), (other, far_device)):
        run("ip", "-n", namespace, "link", "set", end, "up")
        rate, burst = f"{link.bits_per_second:.0f}bit", f"{link.burst_bytes}b"
        shape = ["tbf", "rate", rate, "burst", burst, "latency", _QUEUE]
        run("tc", "-n", namespace, "qdisc", "add", "dev", end, "root", "handle", "1:", *shape)
    if link.delay_seconds:
        _delay(one, device, link)


def _delay(namespace: str, device: str, link: Link) -> None:
    delay = f"{link.delay_seconds * 1e6:.0f}us"
    where = ["dev", device, "parent", "1:1", "handle", "10:"]
    try:
        run("tc", "-n", namespace, "qdisc", "add", *where, "netem", "delay", delay)
    except RunError as error:
        raise UsageError(
            f"link {link.name}: this kernel adds no delay ({error.message})",
            "tc netem is missing; leave the delay out.",
        ) from None
