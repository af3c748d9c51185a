"""Who computes which part of which step: leases of the plan's micro-batches, each counted once.

Pure bookkeeping without processes. A step's micro-batches are tied into bundles of a fixed number;
a :class:`Ticket` names one bundle. Tickets are leased in the order of the plan; those of a worker that
died are leased again, before any other.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

AHEAD = 2
"""Tickets that a worker holds at most: one in work, one whose audio is being read."""


@dataclass(frozen=True, order=True)
class Ticket:
    """Bundle ``number`` of optimiser step ``step``."""

    step: int
    number: int


class Dispenser:
    """Leases tickets of steps ``first`` to ``fence - 1``.

    ``window`` None lets workers run ahead without limit. Else no ticket is leased more than ``window``
    steps after the last step of which all tickets are done: gradients of step t are then taken with
    weights of at least version ``t - window``.
    """

    def __init__(self, first: int, bundles_per_step: int, window: int | None, max_deaths: int = 3) -> None:
        self.bundles_per_step, self._window, self._max_deaths = bundles_per_step, window, max_deaths
        self.roll_back(first)

    def roll_back(self, step: int) -> None:
        """Forget all leases and begin again at ``step``; nothing is leased before a new fence."""
        self.completed = step
        self.fence = step
        self._next = Ticket(step, 0)
        self._again: deque[Ticket] = deque()
        self._held: dict[int, list[Ticket]] = {}
        self._done: dict[int, set[int]] = {}
        self._deaths: dict[Ticket, int] = {}

    def cut_short(self) -> None:
        """Lease no step that nobody has begun."""
        begun = self._next.step + (1 if self._next.number else 0)
        self.fence = min(self.fence, max(begun, self.completed))

    @property
    def quiet(self) -> bool:
        """All tickets before the fence are done, and so nobody holds any."""
        return self.completed == self.fence

    def held(self, worker: int) -> tuple[Ticket, ...]:
        """What a worker holds, the oldest first."""
        return tuple(self._held.get(worker, ()))

    def lease(self, worker: int, num_workers: int) -> Ticket | None:
        """The next ticket for ``worker``, or None when it should get none now.

        The second in one hand is given only while enough is left for all ``num_workers``.
        """
        held = self._held.setdefault(worker, [])
        if len(held) >= AHEAD:
            return None
        if self._again and not held:
            ticket = self._again.popleft()
        elif self._num_free() > (num_workers if held else 0) and not (held and self._again):
            ticket, self._next = self._next, self._after(self._next)
        else:
            return None
        held.append(ticket)
        return ticket

    def done(self, worker: int, ticket: Ticket) -> bool:
        """A worker has done what it held. False when it does not hold it: then it does not count."""
        held = self._held.get(worker, [])
        if ticket not in held:
            return False
        held.remove(ticket)
        self._done.setdefault(ticket.step, set()).add(ticket.number)
        while len(self._done.get(self.completed, ())) == self.bundles_per_step:
            del self._done[self.completed]
            self.completed += 1
        return True

    def lost(self, worker: int) -> list[Ticket]:
        """A worker is gone: what it held is leased again. Returns tickets that too many died of.

        Work is done in the order of leases, so only the oldest that it held is suspected.
        """
        held = self.held(worker)
        self.give_back(worker)
        for ticket in held[:1]:
            self._deaths[ticket] = self._deaths.get(ticket, 0) + 1
        return [ticket for ticket in held if self._deaths.get(ticket, 0) >= self._max_deaths]

    def give_back(self, worker: int) -> None:
        """A worker cannot go on with what it holds: it is leased again, also to the same worker."""
        self._again = deque(sorted((*self._again, *self._held.pop(worker, []))))

    def _num_free(self) -> int:
        """Tickets that may be leased for the first time now."""
        last = self.fence
        if self._window is not None:
            last = min(last, self.completed + self._window + 1)
        return max(0, (last - self._next.step) * self.bundles_per_step - self._next.number)

    def _after(self, ticket: Ticket) -> Ticket:
        if ticket.number + 1 < self.bundles_per_step:
            return Ticket(ticket.step, ticket.number + 1)
        return Ticket(ticket.step + 1, 0)
