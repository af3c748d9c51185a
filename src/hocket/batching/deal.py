"""Dealing a step's micro-batches to replicas whose ranks share the work in groups.

Groups of one replica meet in collectives as they run their micro-batches: they run equally many, and
each is as slow as the costliest of its *slot*. So micro-batches of nearly equal cost share a slot, and
slots are dealt to replicas as micro-batches are to ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hocket.batching.assign import assign, imbalance

Slot = tuple[int | None, ...]
"""Positions of micro-batches, one for each group of a replica; None for a group without work."""


@dataclass(frozen=True)
class Deal:
    """Who computes what in a step."""

    slots: tuple[tuple[Slot, ...], ...]
    """Of each replica, in the order in which they are run."""
    costs: tuple[float, ...]
    """Of each micro-batch."""

    def of(self, replica: int, group: int) -> list[int | None]:
        """What one group of a replica runs, slot by slot."""
        return [slot[group] for slot in self.slots[replica]]

    @property
    def loads(self) -> list[float]:
        """Cost of each replica: that of the costliest micro-batch of each of its slots."""
        return [sum(max(self._cost(position) for position in slot) for slot in own) for own in self.slots]

    def imbalance(self, speeds: Sequence[float] | None = None) -> float:
        """Slowest replica over what it would be if no group ever waited: 1.0 is perfect."""
        if all(len(slot) == 1 for own in self.slots for slot in own):
            return imbalance(
                self.costs, [[slot[0] for slot in own if slot[0] is not None] for own in self.slots], speeds
            )
        num_groups = max(len(slot) for own in self.slots for slot in own)
        rates = [1.0] * len(self.slots) if speeds is None else list(speeds)
        times = [load / rate for load, rate in zip(self.loads, rates, strict=True)]
        mean = sum(
            sum(self._cost(position) for slot in own for position in slot) / (num_groups * rate)
            for own, rate in zip(self.slots, rates, strict=True)
        ) / len(times)
        return max(times) / mean if mean > 0 else 1.0

    def _cost(self, position: int | None) -> float:
        return 0.0 if position is None else self.costs[position]


def deal(
    costs: Sequence[float], num_replicas: int, num_groups: int = 1, speeds: Sequence[float] | None = None
) -> Deal:
    """Deal micro-batches of ``costs`` to replicas of ``num_groups`` groups each.

    The same on every rank; decides who computes what, never what is computed. ``speeds`` are those of
    the replicas.
    """
    if num_groups == 1:
        shares = assign(costs, num_replicas, speeds)
        return Deal(tuple(tuple((position,) for position in share) for share in shares), tuple(costs))
    largest_first = sorted(range(len(costs)), key=lambda position: (-costs[position], position))
    slots: list[Slot] = []
    for start in range(0, len(costs), num_groups):
        slot: Slot = tuple(largest_first[start : start + num_groups])
        slots.append(slot + (None,) * (num_groups - len(slot)))
    shares = assign([costs[largest_first[n * num_groups]] for n in range(len(slots))], num_replicas, speeds)
    return Deal(tuple(tuple(slots[number] for number in share) for share in shares), tuple(costs))
