"""What storage did, in numbers."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, fields
from typing import Any

_KEPT = 256
"""Latencies of so many last requests are known."""


@dataclass
class Counts:
    """Sums: bytes of recordings by where they came from, and what the store was asked for."""

    needed_bytes: int = 0
    """Of recordings that were learnt from, each as often as it was."""
    memory_bytes: int = 0
    """Of these, what was found in this process's memory."""
    disk_bytes: int = 0
    """Of recordings of blocks that came from this host's disk into memory."""
    store_bytes: int = 0
    """Of recordings of blocks that came from the store, into memory or onto this host's disk."""
    fetched_bytes: int = 0
    """Asked of the store and answered, headers between recordings included."""
    overread_bytes: int = 0
    """Of these, what is no recording: headers between them."""
    hedged_bytes: int = 0
    """Asked for a second time because the first answer was late; counted whole, at most so much came."""
    requests: int = 0
    retries: int = 0
    damaged: int = 0
    """Answers and kept blocks whose checksums did not hold."""
    not_kept: int = 0
    """Blocks that the disk had no room for."""
    wait_seconds: float = 0.0
    """For which a reader waited for a block that was not there yet."""

    @property
    def hit_rate(self) -> float:
        """Part of what was needed that the store was not asked for meanwhile, 0 to 1."""
        return hit_rate(self.needed_bytes, self.store_bytes)


def hit_rate(needed_bytes: float, store_bytes: float) -> float:
    """See :attr:`Counts.hit_rate`; 0 when nothing was needed."""
    return max(0.0, 1.0 - store_bytes / needed_bytes) if needed_bytes else 0.0


class Meter:
    """Counts from any thread."""

    def __init__(self) -> None:
        self.total = Counts()
        self._taken = Counts()
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_KEPT)
        self._sorted: list[float] | None = None

    def add(self, **amounts: float) -> None:
        """Add to counts by name."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.total, name, getattr(self.total, name) + amount)

    def answered(self, seconds: float) -> None:
        """A request was answered after so long."""
        with self._lock:
            self._seconds.append(seconds)
            self._sorted = None

    def latency(self, part: float) -> float | None:
        """Seconds within which ``part`` (0 to 1) of the last requests were answered; None before any."""
        with self._lock:
            known = self._sorted
            if known is None:
                known = self._sorted = sorted(self._seconds)
        if not known:
            return None
        place = part * (len(known) - 1)
        below = int(place)
        above = min(below + 1, len(known) - 1)
        return known[below] + (place - below) * (known[above] - known[below])

    @property
    def num_known(self) -> int:
        """Of how many requests :meth:`latency` tells."""
        return len(self._seconds)

    def take(self) -> dict[str, Any]:
        """What was counted since the last call, for an event; empty when nothing was."""
        with self._lock:
            now = {field.name: getattr(self.total, field.name) for field in fields(Counts)}
            since = Counts(**{name: value - getattr(self._taken, name) for name, value in now.items()})
            self._taken = Counts(**now)
        told: dict[str, Any] = {
            field.name: round(value, 6) for field in fields(Counts) if (value := getattr(since, field.name))
        }
        if not told:
            return {}
        if since.needed_bytes:
            told["hit_rate"] = round(since.hit_rate, 4)
        for name, part in (("read_ms_p50", 0.5), ("read_ms_p99", 0.99)):
            seconds = self.latency(part)
            if seconds is not None and since.requests:
                told[name] = round(1000 * seconds, 2)
        return told
