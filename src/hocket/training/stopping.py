"""When to stop: validations that bring nothing better, counted alike on every rank and after a resume.

Prechelt, "Early stopping - but when?", in Neural Networks: Tricks of the Trade, 1998.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class Validated:
    """What the validations of a run said so far; smaller values are better. Kept in checkpoints."""

    step: int = 0
    """Steps done at the last validation."""
    best: float | None = None
    best_step: int | None = None
    """Steps done when ``best`` was reached, the earliest of equals."""
    to_beat: float | None = None
    """The last value that was better than the one before it by enough to wait on."""
    num_in_vain: int = 0
    """Validations since then."""

    def look(self, step: int, value: float, min_delta: float) -> bool:
        """One more validation, after ``step`` steps; True when it is the best so far.

        It is worth waiting on only when it is better than :attr:`to_beat` by more than ``min_delta``.
        """
        self.step = step
        if value < _or_infinite(self.to_beat) - min_delta:
            self.to_beat, self.num_in_vain = value, 0
        else:
            self.num_in_vain += 1
        if not value < _or_infinite(self.best):
            return False
        self.best, self.best_step = value, step
        return True

    def in_vain(self, patience: int | None) -> bool:
        """True when ``patience`` validations in a row were; None waits for ever."""
        return patience is not None and self.num_in_vain >= patience


def _or_infinite(value: float | None) -> float:
    return math.inf if value is None else value
