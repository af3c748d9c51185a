"""What a plan makes small, and candidates that it refuses: of training and of recognition alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from hocket.core.errors import UsageError

Objective = Literal["time", "cost", "energy"]

C = TypeVar("C")


@dataclass(frozen=True)
class Refused(Generic[C]):
    """A candidate that cannot be or is not enough, and why."""

    candidate: C
    reason: str


def check_price(asked: str, name: str, price_per_hour: float | None) -> None:
    """Raise :class:`UsageError` where ``asked`` (an option) needs a price and ``name`` has none."""
    if price_per_hour is None:
        raise UsageError(
            f"{asked}: {name} has no price", "Say what a device costs in an hour: --price 2.50, say."
        )


def check_objective(
    objective: Objective, name: str, price_per_hour: float | None, watts: float | None
) -> None:
    """Raise :class:`UsageError` where the hardware ``name`` lacks the figures of an objective."""
    if objective == "cost":
        check_price("--objective cost", name, price_per_hour)
    if objective == "energy" and watts is None:
        raise UsageError(
            f"--objective energy: {name} has no power",
            "Plan for a card of the catalogue whose power is published (hocket hardware).",
        )
