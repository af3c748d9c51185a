"""What a recipe says about batches."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from hocket.batching.partition import PartitionName
from hocket.batching.phases import Growth
from hocket.core.cost import CostModel
from hocket.core.recipe import Section


class CostSettings(Section):
    """Coefficients of :class:`hocket.core.cost.CostModel`, written out."""

    a0: float = Field(ge=0)
    a: float = Field(ge=0)
    b: float = Field(ge=0)
    c: float = Field(ge=0)
    d: float = Field(default=0.0, ge=0)

    def model(self) -> CostModel:
        """The cost model with these coefficients."""
        return CostModel(self.a0, self.a, self.b, self.c, self.d)


class BatchSettings(Section):
    """How large a step is and how it is cut. All of it decides the answer; none of it is a world size."""

    seconds: float = Field(default=240.0, gt=0)
    """Audio seconds of a global batch, without padding, in the mean over an epoch."""

    micro_batches_per_step: int = Field(default=8, ge=1)
    """Micro-batches of a step. Balance is best for worker counts that divide it, and better with several
    for each worker than with one."""

    pool_steps: int = Field(default=32, ge=1)
    """Steps cut from one pool, at least (an epoch is divided evenly). Larger pools pad less and wait less;
    smaller ones mix more."""

    frame_multiple: int = Field(default=8, ge=1)
    """Micro-batches are padded to a multiple of so many feature frames: fewer distinct shapes, for
    which libraries prepare kernels, and aligned ones."""

    partition: PartitionName = "by_cost"
    """Who shares a micro-batch and a step; the others than ``by_cost`` are for studies:
    :mod:`hocket.batching.partition`."""

    cost: CostSettings | Literal["model", "measured"] = "model"
    """``model``: from the operations of the model, the same everywhere. ``measured``: fitted on
    this machine when the run first starts, and written into its resolved recipe."""

    probe_every: int = Field(default=0, ge=0)
    """Every so many steps one is cut at random, to measure the noise of gradients: see
    :mod:`hocket.batching.probe`; 0: none. The same under every strategy, whether it can measure or not."""

    growth: tuple[Growth, ...] = ()
    """From when on steps are larger, each ``{epoch, times}``: see :mod:`hocket.batching.phases`."""

    @field_validator("growth")
    @classmethod
    def _epochs_rise(cls, given: tuple[Growth, ...]) -> tuple[Growth, ...]:
        if any(before.epoch >= after.epoch for before, after in pairwise(given)):
            raise ValueError("epochs must rise from one phase to the next")
        return given
