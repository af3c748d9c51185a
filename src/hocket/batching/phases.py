"""Batches that grow: from optimiser steps to pools and back, by arithmetic.

Pools stay as they are; a pool of a later phase is cut into fewer, larger steps. So a phase begins with a
pool, and where any step is follows from the few phases before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from hocket.core.recipe import Section

F64 = npt.NDArray[np.float64]


class Growth(Section):
    """From when on steps are how many times as large."""

    epoch: float = Field(gt=0)
    """Epochs done, counted from the start of the run; the phase begins with the nearest pool."""

    times: int = Field(ge=1)
    """A step has so many times ``seconds`` and ``micro_batches_per_step``, so micro-batches stay as large."""


@dataclass(frozen=True)
class Phase:
    """Pools in a row that are cut into equally many steps. Pools are counted through all epochs."""

    first_pool: int
    first_step: int
    steps_per_pool: int
    times: int


class Phases:
    """All phases of a run, from the first pool on."""

    def __init__(self, num_pools: int, steps_per_pool: int, growth: Sequence[Growth]) -> None:
        self._num_pools = num_pools
        self._all = [Phase(0, 0, steps_per_pool, 1)]
        for each in growth:
            last, pool = self._all[-1], round(each.epoch * num_pools)
            if pool <= last.first_pool:  # of two that begin with one pool the later counts
                self._all.pop()
                pool = last.first_pool
                step = last.first_step
            else:
                step = last.first_step + (pool - last.first_pool) * last.steps_per_pool
            self._all.append(Phase(pool, step, max(1, round(steps_per_pool / each.times)), each.times))

    def at(self, step: int) -> Phase:
        """The phase that step ``step`` of the run is in."""
        return next(phase for phase in reversed(self._all) if phase.first_step <= step)

    def of_pool(self, pool: int) -> Phase:
        """The phase that pool ``pool`` of the run is in."""
        return next(phase for phase in reversed(self._all) if phase.first_pool <= pool)

    def place(self, step: int) -> tuple[int, int]:
        """(pool of the run, step in the pool) of step ``step``, all from 0."""
        phase = self.at(step)
        pools, within = divmod(step - phase.first_step, phase.steps_per_pool)
        return phase.first_pool + pools, within

    def first_step(self, pool: int) -> int:
        """The first step of pool ``pool`` of the run."""
        phase = self.of_pool(pool)
        return phase.first_step + (pool - phase.first_pool) * phase.steps_per_pool

    def first_steps(self, pools: F64) -> F64:
        """:meth:`first_step` of many."""
        found = np.empty(len(pools))
        for phase in self._all:
            later = pools >= phase.first_pool
            found[later] = phase.first_step + (pools[later] - phase.first_pool) * phase.steps_per_pool
        return found

    def steps_of(self, epochs: float) -> int:
        """Steps of the first ``epochs`` epochs, at least one."""
        pools = epochs * self._num_pools
        whole = int(pools)
        part = (pools - whole) * self.of_pool(whole).steps_per_pool
        return max(1, round(self.first_step(whole) + part))
