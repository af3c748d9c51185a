"""How fast each rank is, for dealing out micro-batches: decides who does what, never what is learnt.

Measured speeds are the same on all ranks, since all ranks are told how long each worked. They change
only from one block of steps to the next, and stand one whole block before: by then every rank has
settled the steps they come from, also one whose loader reads ahead.
"""

from __future__ import annotations

from collections.abc import Sequence

from hocket.batching import Deal, deal
from hocket.core.errors import UsageError
from hocket.core.layout import Layout
from hocket.core.work import GlobalBatch

_MIN_BLOCK = 8


class Speeds:
    """Relative speeds of the ranks at every step. ``wanted`` is the recipe's ``workers.speeds``."""

    def __init__(
        self, wanted: str | Sequence[float], num_ranks: int, first_step: int, steps_ahead: int
    ) -> None:
        self._measures = wanted == "auto"
        self._known = [1.0] * num_ranks if isinstance(wanted, str) else [float(rate) for rate in wanted]
        if len(self._known) != num_ranks:
            raise UsageError(
                f"workers.speeds: {len(self._known)} speeds for {num_ranks} workers",
                "Give one for each, or auto.",
            )
        self._first = first_step
        self._block = max(_MIN_BLOCK, steps_ahead + 2)
        self._costs: dict[int, list[float]] = {}
        self._seconds: dict[int, list[float]] = {}

    def at(self, step: int) -> list[float]:
        """Speeds for step ``step``; of measured ones, the steps two blocks before must be recorded."""
        source = self._block_of(step) - 2
        if not self._measures or source not in self._costs:
            return self._known
        rates = [
            cost / seconds if cost > 0 and seconds > 0 else 0.0
            for cost, seconds in zip(self._costs[source], self._seconds[source], strict=True)
        ]
        fastest = max(rates)
        # A rank that had nothing to do gets another try as a slow one, so that it can be measured again.
        slowest = min((rate for rate in rates if rate > 0), default=1.0)
        return [(rate or slowest) / fastest for rate in rates] if fastest > 0 else self._known

    def deal(self, batch: GlobalBatch, layout: Layout) -> Deal:
        """Who computes what of a step at these speeds."""
        costs = [micro_batch.cost for micro_batch in batch.micro_batches]
        return deal(costs, layout.dp_replicate, layout.dp_shard, self.at(batch.step))

    def record(self, step: int, costs: Sequence[float], seconds: Sequence[float]) -> None:
        """What each rank computed in a step, in predicted cost, and how long it worked."""
        if not self._measures:
            return
        block = self._block_of(step)
        for table, values in ((self._costs, costs), (self._seconds, seconds)):
            before = table.get(block, [0.0] * len(self._known))
            table[block] = [a + b for a, b in zip(before, values, strict=True)]
            for old in [each for each in table if each < block - 2]:
                del table[old]

    def _block_of(self, step: int) -> int:
        return (step - self._first) // self._block
