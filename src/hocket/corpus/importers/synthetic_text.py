"""What is said in the synthetic corpus: ten digits and some thirty words of command."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SINGLE = ("yes", "no", "stop", "go", "start", "help", "cancel", "repeat", "louder", "back")
_SWITCHED = ("light", "music", "radio", "heater")
_OPENED = ("door", "window", "gate")
_WAYS = ("left", "right", "up", "down")


def sentence(draw: np.random.Generator) -> str:
    """One sentence: digits (a third of them), or a command, often with digits in it."""
    kind = int(draw.integers(12))
    if kind < 4:
        return _digits(draw, 2, 6)
    if kind == 4:
        return f"{_one(draw, SINGLE)} {_one(draw, SINGLE)}"
    if kind == 5:
        return _one(draw, SINGLE)
    if kind == 6:
        return f"turn {_one(draw, ('on', 'off'))} the {_one(draw, _SWITCHED)}"
    if kind == 7:
        return f"{_one(draw, ('open', 'close'))} the {_one(draw, _OPENED)}"
    if kind == 8:
        return f"go {_one(draw, _WAYS)} {_digits(draw, 1, 2)}"
    if kind == 9:
        return f"call {_digits(draw, 3, 5)}"
    if kind == 10:
        return f"set the {_one(draw, ('timer', 'heater'))} to {_digits(draw, 1, 2)}"
    return f"{_one(draw, ('save', 'play', 'delete'))} message {_digits(draw, 1, 3)}"


def _digits(draw: np.random.Generator, fewest: int, most: int) -> str:
    return " ".join(_one(draw, DIGITS) for _ in range(int(draw.integers(fewest, most + 1))))


def _one(draw: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(draw.integers(len(choices)))]
