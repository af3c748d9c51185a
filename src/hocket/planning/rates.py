"""How fast a device does each kind of work: seconds from counts, for micro-batches and for steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.demand import F64, KINDS, WHOLE, Cut, Shape, piece_demand

BY_ARITHMETIC = frozenset(
    (
        "products",
        "uneven_products",
        "scores",
        "tiled_scores",
        "tiles",
        "convolutions",
        "near_values",
        "trellis",
        "steps_of_trellis",
    )
)
"""Kinds of work whose rate is that of the arithmetic units; the others wait for memory."""

Pass = Literal["forward", "backward"]


@dataclass(frozen=True)
class PassRates:
    """Seconds of one of each of :data:`~hocket.planning.demand.KINDS`, forward and backward."""

    forward: tuple[float, ...]
    backward: tuple[float, ...]

    def seconds(self, counts: F64, direction: Pass) -> float:
        """Of one pass with these counts."""
        return float(counts @ np.asarray(getattr(self, direction)))

    def times(self, factors: F64) -> PassRates:
        """With every rate multiplied by its factor."""
        return PassRates(
            tuple((np.asarray(self.forward) * factors).tolist()),
            tuple((np.asarray(self.backward) * factors).tolist()),
        )

    def by_kind(self, counts: F64) -> dict[str, float]:
        """Seconds of both passes that each kind of work takes."""
        both = counts * (np.asarray(self.forward) + np.asarray(self.backward))
        return dict(zip(KINDS, both.tolist(), strict=True))


@dataclass(frozen=True)
class StepRates:
    """Of what comes once a step: ``fixed`` seconds, and seconds for each parameter that a rank holds."""

    fixed: float
    per_parameter: float

    def seconds(self, num_parameters: float) -> float:
        """Of a step over so many parameters."""
        return self.fixed + self.per_parameter * num_parameters

    def times(self, factor: float) -> StepRates:
        """With both multiplied."""
        return StepRates(self.fixed * factor, self.per_parameter * factor)


@dataclass(frozen=True)
class Rates:
    """A device, or one core of a processor, as far as training needs to know it."""

    passes: Mapping[Precision, PassRates]
    optimiser: StepRates
    """Agreeing with nobody, clipping, and AdamW."""
    coding: Mapping[str, StepRates] = field(default_factory=dict)
    """What each compression adds to that, by its name."""
    average: StepRates = StepRates(0.0, 0.0)
    """Keeping a moving average of the weights."""
    loading: float = 0.0
    """Seconds of a rank's own time for a second of audio: to read it, decode it and turn it into features."""
    spread: float = 0.0
    """Median relative error of what these rates say, over the runs that they come from; 0 where none."""

    def piece(
        self, config: ModelConfig, precision: Precision, piece: int, shape: Shape, cut: Cut = WHOLE
    ) -> tuple[float, float]:
        """Seconds of (forward, backward) of one piece of the model."""
        counts, rates = piece_demand(config, piece, shape, cut), self.passes[precision]
        return rates.seconds(counts, "forward"), rates.seconds(counts, "backward")

    def of_kind(
        self, config: ModelConfig, precision: Precision, piece: int, shape: Shape, cut: Cut, kind: str
    ) -> tuple[float, float]:
        """Seconds of (forward, backward) of one kind of work in a piece."""
        place, rates = KINDS.index(kind), self.passes[precision]
        count = float(piece_demand(config, piece, shape, cut)[place])
        return count * rates.forward[place], count * rates.backward[place]

    def slowed(self, arithmetic: float, memory: float) -> Rates:
        """The same where work that waits for arithmetic, and that for memory, takes so many times as long.

        Optimisers, compressions and averages wait for memory.
        """
        factors = np.array([arithmetic if kind in BY_ARITHMETIC else memory for kind in KINDS])
        return replace(
            self,
            passes={name: each.times(factors) for name, each in self.passes.items()},
            optimiser=self.optimiser.times(memory),
            coding={name: each.times(memory) for name, each in self.coding.items()},
            average=self.average.times(memory),
            loading=self.loading * arithmetic,
        )

    def as_dict(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)

    @staticmethod
    def from_dict(given: Mapping[str, Any]) -> Rates:
        """What :meth:`as_dict` gave."""
        return Rates(
            passes={
                name: PassRates(tuple(each["forward"]), tuple(each["backward"]))
                for name, each in given["passes"].items()
            },
            optimiser=StepRates(**given["optimiser"]),
            coding={name: StepRates(**each) for name, each in given["coding"].items()},
            average=StepRates(**given["average"]),
            loading=given["loading"],
            spread=given["spread"],
        )
