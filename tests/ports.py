"""Ports for processes that must be told one before they are started."""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_port() -> int:
    """A TCP port that nobody listens on, of those that the system hands to nobody who asks for any.

    So nobody else gets it before the process that is told of it has bound it.
    """
    first, last = map(int, _EPHEMERAL.read_text().split())
    ports = [port for port in range(10_000, 65_536) if not first <= port <= last]
    random.shuffle(ports)
    for port in ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError(f"no free port but {first} to {last}")
