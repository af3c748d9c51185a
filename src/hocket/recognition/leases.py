"""Who holds which micro-batch: each of them ends exactly once, done or given up.

Pure bookkeeping without processes. Work is handed out largest first. A worker may hold one
micro-batch ahead of the one it computes, so that reading overlaps computing.

When a worker dies with two in its hands nobody knows which of them killed it. Both become *suspects*
and are tried alone from then on, so that an innocent one is never blamed more than once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence

AHEAD = 2
"""Micro-batches that a worker holds at most: one in work, one being read."""


class LeaseBook:
    """The queue of a job. ``costs`` are any comparable sizes, by number of the micro-batch.

    Those in ``done`` are finished already.
    """

    def __init__(self, costs: Sequence[float], max_deaths: int, done: Container[int] = ()) -> None:
        numbers = (number for number in range(len(costs)) if number not in done)
        order = sorted(numbers, key=lambda number: (-costs[number], number))
        self._fresh = deque(order)
        self._suspects: deque[int] = deque()
        self._held: dict[int, list[int]] = {}
        self._deaths: dict[int, int] = {}
        self._max_deaths = max_deaths
        self._open = set(order)

    @property
    def num_open(self) -> int:
        """Micro-batches that are neither done nor given up."""
        return len(self._open)

    @property
    def num_waiting(self) -> int:
        """Open micro-batches that nobody holds."""
        return len(self._fresh) + len(self._suspects)

    def held(self, worker: int) -> tuple[int, ...]:
        """What a worker holds, the oldest first."""
        return tuple(self._held.get(worker, ()))

    def deaths(self, number: int) -> int:
        """How many workers died while they held this micro-batch."""
        return self._deaths.get(number, 0)

    def lease(self, worker: int, num_workers: int) -> int | None:
        """The next micro-batch for a worker, or None when it should get none now.

        The second in one hand is given only while enough is left for all ``num_workers``.
        """
        held = self._held.setdefault(worker, [])
        if not held:
            queue = self._suspects or self._fresh
        elif (
            len(held) < AHEAD
            and not self._suspects
            and not any(self.deaths(number) for number in held)
            and len(self._fresh) >= num_workers
        ):
            queue = self._fresh
        else:
            return None
        if not queue:
            return None
        number = queue.popleft()
        held.append(number)
        return number

    def done(self, worker: int, number: int) -> bool:
        """A worker answered. False when it does not hold this micro-batch: the answer is not to count."""
        held = self._held.get(worker, [])
        if number not in held:
            return False
        held.remove(number)
        self._open.discard(number)
        return True

    def lost(self, worker: int) -> list[int]:
        """A worker is gone. What it held waits again; returns the micro-batches that are given up."""
        given_up = []
        for number in self._held.pop(worker, []):
            self._deaths[number] = self.deaths(number) + 1
            if self._deaths[number] >= self._max_deaths:
                self._open.discard(number)
                given_up.append(number)
            else:
                self._suspects.append(number)
        return given_up

    def abandon(self) -> list[int]:
        """Give up everything that is open, by number."""
        given_up = sorted(self._open)
        self._open.clear()
        self._fresh.clear()
        self._suspects.clear()
        self._held.clear()
        return given_up
