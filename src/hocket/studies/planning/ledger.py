"""What runs on this machine took, beside what was said of them: the planner's memory of its own errors.

One line of JSON for each run. The rates of a machine are corrected by the median of what its last runs took
over what the rates alone had said, by precision.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hocket.planning.demand import KINDS
from hocket.planning.rates import Rates

LEDGER = "runs.jsonl"

_LAST = 20
_LEAST = 3
"""Runs before rates are corrected."""
_READ = {"device", "precision", "said", "measured"}
"""What of an entry corrections are made from; lines of another hocket may lack it."""
_CREDIBLE = (0.5, 2.0)
"""A run outside was disturbed, or is of a kind that the planner does not know: it corrects nothing."""


@dataclass(frozen=True)
class Entry:
    """One run."""

    time: float
    """When it was written down, in seconds since the epoch."""
    run: str
    device: str
    precision: str
    workers: int
    layout: str
    sync: str
    said: float
    """Seconds of a step by the rates of the machine as they were measured."""
    measured: float
    """Seconds of a step in the median."""
    seconds: Mapping[str, float]
    """What was said of them, by kind."""


def append(entry: Entry, cache: Path) -> None:
    """Add a run."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / LEDGER).open("a", encoding="utf-8") as ledger:
        ledger.write(json.dumps(asdict(entry)) + "\n")


def corrected(rates: Rates, device: str, cache: Path) -> tuple[Rates, list[str]]:
    """Rates as the last runs on this machine correct them, and what was corrected, in words."""
    taken: dict[str, list[float]] = {}
    for entry in _entries(cache / LEDGER):
        ratio = entry["measured"] / entry["said"]
        if entry["device"] == device and _CREDIBLE[0] < ratio < _CREDIBLE[1]:
            taken.setdefault(entry["precision"], []).append(ratio)
    passes, notes = dict(rates.passes), []
    for precision, each in rates.passes.items():
        ratios = taken.get(precision, [])
        if len(ratios) >= _LEAST:
            factor = statistics.median(ratios[-_LAST:])
            passes[precision] = each.times(np.full(len(KINDS), factor))
            notes.append(
                f"{precision}: rates are corrected by {factor:.2f}, the median of the last "
                f"{min(len(ratios), _LAST)} runs here"
            )
    return replace(rates, passes=passes), notes


def _entries(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:  # a line that was cut off while it was written
            continue
        if isinstance(entry, dict) and entry.keys() >= _READ and entry["said"] > 0:
            found.append(entry)
    return found
