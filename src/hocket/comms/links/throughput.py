"""What a link between two hosts really carries: bytes a second one way, and the time of a round trip."""

from __future__ import annotations

import fcntl
import socket
import statistics
import struct
import termios
import threading
from dataclasses import dataclass

from hocket.comms.links.host import Host
from hocket.core import clock

_CHUNK = bytes(1 << 16)
_ROUNDS = 50


@dataclass(frozen=True)
class Carried:
    """Of one TCP connection."""

    bits_per_second: float
    """Of payload that arrived, once the connection is at its pace: the second half of the time."""
    round_trip_seconds: float
    """Median over single bytes on an idle link."""
    num_bytes: int
    """Payload that arrived in all."""


def measure(sender: Host, receiver: Host, seconds: float = 2.0) -> Carried:
    """Send from one host to the other for so long, then single bytes to and fro."""
    listener = receiver.call(lambda: socket.create_server((receiver.address, 0)))
    with listener:
        address = listener.getsockname()
        out = sender.call(lambda: socket.create_connection(address, timeout=10.0))
        inward, _ = listener.accept()
    with out, inward:
        for each in (out, inward):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.settimeout(30.0)
        round_trip = _round_trip(out, inward)
        rate, num_bytes = _rate(out, inward, seconds)
    return Carried(rate, round_trip, num_bytes)


def _round_trip(out: socket.socket, inward: socket.socket) -> float:
    times = []
    for _ in range(_ROUNDS):
        start = clock.monotonic()
        out.sendall(b"?")
        inward.recv(1)
        inward.sendall(b"!")
        out.recv(1)
        times.append(clock.monotonic() - start)
    return statistics.median(times)


def _rate(out: socket.socket, inward: socket.socket, seconds: float) -> tuple[float, int]:
    over = threading.Event()

    def send() -> None:
        while not over.is_set():
            out.sendall(_CHUNK)
        out.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=send, name="send", daemon=True)
    thread.start()
    begun = clock.monotonic()
    before = counted = 0
    since = until = begun
    buffer = bytearray(1 << 16)
    while (size := inward.recv_into(buffer)) > 0:  # to the last byte that was under way
        counted += size
        if over.is_set():
            continue
        until, arrived = clock.monotonic(), counted + _unread(inward)  # however late they are read
        if until - begun < seconds / 2:
            since, before = until, arrived
        elif until - begun > seconds:
            rate = 8 * (arrived - before) / (until - since)
            over.set()
    thread.join()
    return rate, counted


def _unread(connection: socket.socket) -> int:
    """Bytes that have arrived and wait to be read: FIONREAD of tcp(7)."""
    answer = fcntl.ioctl(connection, termios.FIONREAD, bytes(4))
    return int(struct.unpack("i", answer)[0])
