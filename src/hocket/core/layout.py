"""How many devices stand along each axis of the mesh, and how a model is run on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from hocket.core.errors import UsageError
from hocket.core.recipe import Section

AXES = ("pp", "dp_replicate", "dp_shard", "sp", "tp")
"""Mesh axes from the outermost (slowest links) to the innermost (fastest links)."""

INSIDE = ("pp", "dp_shard", "sp", "tp")
"""Axes within one replica of the model."""

COPIED = ("pp", "sp", "tp")
"""Axes whose ranks work on the same micro-batches: the ranks of one *group*."""

Schedule = Literal["gpipe", "1f1b", "interleaved"]
Recompute = Literal["none", "all"] | int | str
"""Blocks whose activations are computed again in the backward pass: none, all, so many of them, or
``"1500MB"``: as many as keep the largest micro-batch's activations below that."""

Reshard = Literal["block", "step"]
"""When ranks of ``dp_shard`` let go of whole parameters: after each block's pass, or after the step."""

_TARGET = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB)", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """Degrees of the mesh axes, whose product is the world size, and how each replica runs.

    ``schedule`` is the pipeline's; ``recompute`` says which blocks keep no activations, ``reshard`` how long
    gathered parameters stay.
    """

    pp: int = 1
    dp_replicate: int = 1
    dp_shard: int = 1
    sp: int = 1
    tp: int = 1
    schedule: Schedule = "1f1b"
    recompute: Recompute = "none"
    reshard: Reshard = "block"

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
    def replica_size(self) -> int:
        """Number of ranks of one replica of the model."""
        return self.world_size // self.dp_replicate

    @property
    def num_groups(self) -> int:
        """Number of groups of ranks that work on micro-batches of their own."""
        return self.dp_replicate * self.dp_shard

    @property
    def degrees(self) -> tuple[int, ...]:
        """Degrees in the order of :data:`AXES`."""
        return tuple(getattr(self, axis) for axis in AXES)

    def __str__(self) -> str:
        """What is split, and how it runs, as the command line takes it: ``pp=2,tp=2``."""
        said = [f"{axis}={degree}" for axis, degree in zip(AXES, self.degrees, strict=True) if degree > 1]
        if self.pp > 1 and self.schedule != "1f1b":
            said.append(f"schedule={self.schedule}")
        if self.recompute != "none":
            said.append(f"recompute={self.recompute}")
        if self.dp_shard > 1 and self.reshard != "block":
            said.append(f"reshard={self.reshard}")
        return ",".join(said) or "single"


def target_bytes(recompute: Recompute) -> int | None:
    """Bytes of ``"1500MB"`` or ``"2GB"``; None for another form of :data:`Recompute`."""
    found = _TARGET.fullmatch(recompute) if isinstance(recompute, str) else None
    return None if found is None else int(float(found[1]) * 10 ** (6 if found[2].upper() == "MB" else 9))


class LayoutSettings(Section):
    """The ``layout`` section of a recipe: a mapping, or as the command line takes it, ``tp=2,pp=2``."""

    pp: int = Field(default=1, ge=1)
    """Stages of a pipeline."""

    dp_replicate: int | None = Field(default=None, ge=1)
    """Replicas of the model. Without a word: as many as there are workers for."""

    dp_shard: int = Field(default=1, ge=1)
    """Ranks that share parameters, gradients and optimiser state of a replica (FSDP)."""

    sp: int = Field(default=1, ge=1)
    """Ranks that share the frames of each utterance."""

    tp: int = Field(default=1, ge=1)
    """Ranks that share each layer's heads and channels."""

    schedule: Schedule = "1f1b"
    recompute: Recompute = "none"
    reshard: Reshard = "block"

    @field_validator("recompute")
    @classmethod
    def _known(cls, given: Recompute) -> Recompute:
        if isinstance(given, int):
            if given < 0:
                raise ValueError("a number of blocks starts at 0")
        elif given not in ("none", "all") and target_bytes(given) is None:
            raise ValueError("give none, all, a number of blocks, or a target like 1500MB")
        return given

    @property
    def replica_size(self) -> int:
        """Ranks of one replica."""
        return self.pp * self.dp_shard * self.sp * self.tp

    @property
    def least_workers(self) -> int:
        """Workers that the layout needs at least."""
        return self.replica_size * (self.dp_replicate or 1)

    def fill(self, workers: int) -> Layout:
        """The layout of so many workers: what is left of them are replicas.

        Raises :class:`UsageError` where the numbers do not fit.
        """
        replicas, rest = divmod(workers, self.replica_size)
        if rest or replicas == 0:
            raise UsageError(
                f"layout: {workers} workers are not a multiple of the {self.replica_size} that one replica "
                f"takes ({self})",
                f"Give --workers {max(1, replicas) * self.replica_size}, or other degrees.",
            )
        if self.dp_replicate not in (None, replicas):
            raise UsageError(
                f"layout: dp_replicate={self.dp_replicate} replicas of {self.replica_size} ranks are "
                f"{self.least_workers} workers, not {workers}",
                f"Give --workers {self.least_workers}, or leave out dp_replicate.",
            )
        given = {name: getattr(self, name) for name in type(self).model_fields}
        return Layout(**{**given, "dp_replicate": replicas})

    def __str__(self) -> str:
        """The axes that are split, as the command line takes them."""
        said = [f"{axis}={getattr(self, axis)}" for axis in INSIDE if getattr(self, axis) > 1]
        return ",".join(said) or "no axis is split"


def _from_text(given: Any) -> Any:
    """``tp=2,pp=2`` as a mapping; anything else as it is."""
    if not isinstance(given, str):
        return given
    found: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in given.split(","))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not value:
            raise ValueError(f"{part!r} is not of the form axis=degree")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = int(value) if value.isdecimal() else value
    return found


LayoutField = Annotated[LayoutSettings, BeforeValidator(_from_text)]
"""A recipe's ``layout``."""
