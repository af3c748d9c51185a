"""The gradient noise scale of a run in words and as a picture, and the batches that would follow it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hocket.core.events import Event
from hocket.reports.axes import duration, number, percent
from hocket.reports.svg import Series, line_chart

_FIRST_PROBES = 3
"""A smoothed estimate of fewer probe steps is not acted on."""


def say(told: Mapping[str, Any]) -> str:
    """A ``noise_scale`` event in words."""
    probes = f"{told['num_probes']} probe step{'' if told['num_probes'] == 1 else 's'}"
    if told["noise_seconds"] is None:
        return f"not to be told from {probes}: the gradient does not stand out from its noise"
    return f"{_batch(told['noise_seconds'])} ({number(told['noise_utterances'])} utterances), from {probes}"


def advise(told: Mapping[str, Any]) -> str | None:
    """What it says about the run's batch and number of workers."""
    if told["noise_seconds"] is None:
        return None
    data, workers = float(told["data_efficiency"]), int(told["max_workers"])
    return (
        f"with steps of {_batch(told['batch_seconds'])} each second of audio brings {percent(data)} of what "
        f"it would in the smallest steps; beyond {workers:,} worker{'' if workers == 1 else 's'} with a "
        "micro-batch of this size each, less than half"
    )


def suggested_growth(
    found: Sequence[Event], start: Mapping[str, Any], end: float | None
) -> list[dict[str, float | int]]:
    """A ``batch.growth`` that keeps a step at or below the noise scale: powers of two, never less.

    ``found`` are the ``noise_scale`` events of a run, in order, ``start`` its ``start`` event; phases
    that would begin after epoch ``end`` are left out.
    """
    per_epoch, base = start.get("steps_per_epoch"), start.get("batch_seconds")
    if not per_epoch or not base:
        return []
    phases: list[dict[str, float | int]] = []
    times, below = 1, 1
    for event in found:
        if event["noise_seconds"] is None or int(event["num_probes"]) < _FIRST_PROBES:
            continue
        bears = 2 ** max(0, math.floor(math.log2(event["noise_seconds"] / base)))
        wanted, below = min(bears, below), bears  # of two probes in a row, so that one alone decides nothing
        epoch = round((int(event["step"]) + 1) / per_epoch, 3)
        if wanted > times and (end is None or epoch < end):
            times = wanted
            phases.append({"epoch": epoch, "times": times})
    return phases


def chart(found: Sequence[Event]) -> str | None:
    """The noise scale beside the batch, over steps; None where it was never told."""
    told = [event for event in found if event["noise_seconds"] is not None]
    if not told:
        return None
    xs = [float(event["step"]) + 1 for event in told]
    lines = [
        Series("noise scale", xs, [float(event["noise_seconds"]) for event in told], "line-a", True),
        Series("batch", xs, [float(event["batch_seconds"]) for event in told], "line-b"),
    ]
    title = "Gradient noise scale: a batch beyond it wastes audio"
    return line_chart(lines, title=title, x_label="step", y_label="s of audio", from_zero=True)


def _batch(seconds: float) -> str:
    return f"{number(seconds)} s of audio" if seconds < 600 else f"{duration(seconds)} of audio"
