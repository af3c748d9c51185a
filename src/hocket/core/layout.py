"""How many devices stand along each axis of the mesh."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from hocket.core.errors import UsageError

AXES = ("pp", "dp_replicate", "dp_shard", "sp", "tp")
"""Mesh axes from the outermost (slowest links) to the innermost (fastest links)."""


@dataclass(frozen=True)
class Layout:
    """Degrees of the mesh axes; their product is the world size."""

    pp: int = 1
    dp_replicate: int = 1
    dp_shard: int = 1
    sp: int = 1
    tp: int = 1

    def __post_init__(self) -> None:
        for axis in AXES:
            if getattr(self, axis) < 1:
                raise UsageError(
                    f"layout: the degree of {axis} is {getattr(self, axis)}", "Degrees start at 1."
                )

    @property
    def world_size(self) -> int:
        """Number of ranks the layout needs."""
        return prod(self.degrees)

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees in the order of :data:`AXES`."""
        return tuple(getattr(self, axis) for axis in AXES)

    def __str__(self) -> str:
        """The axes that are split, as the command line takes them: ``tp=2,pp=2``."""
        split = [f"{axis}={degree}" for axis, degree in zip(AXES, self.degrees, strict=True) if degree > 1]
        return ",".join(split) or "single"
