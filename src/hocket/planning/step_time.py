"""What a prediction says of a step's time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("compute", "recompute", "bubble", "wait", "communication", "optimiser", "data")
"""Where the time of a step goes: computing; computing again what was not kept; ranks of a pipeline without
work; waiting for slower replicas; sending that nothing hides; agreeing and stepping; reading."""


@dataclass(frozen=True)
class StepTime:
    """A step in the mean over the sample of the plan."""

    by_kind: Mapping[str, float]
    """Seconds by :data:`KINDS`."""
    bytes_by_axis: Mapping[str, float]
    """What the busiest rank puts on the wire in a step, by mesh axis."""
    imbalance: float
    """Slowest replica over the mean of all: 1.0 is perfect."""
    bubble: float
    """Share of a pipeline's step in which its ranks have no work."""

    @property
    def seconds(self) -> float:
        """All kinds together."""
        return sum(self.by_kind.values())
