"""What storage did, in numbers."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

_KEPT = 256
"""Latencies of so many last requests are known."""


@dataclass
class Counts:
    """Sums: bytes of recordings by where they came from, and what the store was asked for."""

    memory_bytes: int = 0
    """Of recordings that were found in this process's memory."""
    disk_bytes: int = 0
    """Of recordings of blocks that came from this host's disk into memory."""
    store_bytes: int = 0
    """Of recordings of blocks that came from the store."""
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
        """Part of what was brought into memory that the store was not asked for, 0 to 1."""
        return self.disk_bytes / max(1, self.disk_bytes + self.store_bytes)


class Meter:
    """Counts from any thread."""

    def __init__(self) -> None:
        self.total = Counts()
        self._taken = Counts()
        self._lock = threading.Lock()
        self._seconds: deque[float] = deque(maxlen=_KEPT)

    def add(self, **amounts: float) -> None:
        """Add to counts by name."""
        with self._lock:
            for name, amount in amounts.items():
                setattr(self.total, name, getattr(self.total, name) + amount)

    def answered(self, seconds: float) -> None:
        """A request was answered after so long."""
        with self._lock:
            self._seconds.append(seconds)

    def latency(self, part: float) -> float | None:
        """Seconds within which ``part`` (0 to 1) of the last requests were answered; None before any."""
        with self._lock:
            known = list(self._seconds)
        return float(np.quantile(known, part)) if known else None

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
        told["hit_rate"] = round(since.hit_rate, 4)
        for name, part in (("read_ms_p50", 0.5), ("read_ms_p99", 0.99)):
            seconds = self.latency(part)
            if seconds is not None and since.requests:
                told[name] = round(1000 * seconds, 2)
        return told
