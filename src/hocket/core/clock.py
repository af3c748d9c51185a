"""Time, in one place, so that a test can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]

monotonic: Clock = time.perf_counter
"""Seconds from an arbitrary start, never going back: for durations."""

busy: Clock = time.thread_time
"""Seconds that this thread computed, by the system's account: what others took of the core is not in it."""

spent: Clock = time.process_time
"""Seconds that this process computed since it began, in all its threads."""

wall: Clock = time.time
"""Seconds since the epoch: for stamps that people read."""


class Stopwatch:
    """Seconds by kind (``data``, ``compute``, ``communication``, ``wait``), for one step."""

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    def add(self, kind: str, seconds: float) -> None:
        """Count ``seconds`` more under ``kind``."""
        self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds

    def time(self, kind: str) -> _Lap:
        """Context manager: what happens inside is counted under ``kind``."""
        return _Lap(self, kind, self._clock)

    def take(self) -> dict[str, float]:
        """Return what was counted since the last call, and start anew."""
        taken, self.seconds = self.seconds, {}
        return taken


class _Lap:
    def __init__(self, watch: Stopwatch, kind: str, clock: Clock) -> None:
        self._watch, self._kind, self._clock = watch, kind, clock

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *_: object) -> None:
        self._watch.add(self._kind, self._clock() - self._start)
