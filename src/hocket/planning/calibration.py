"""Rates of this machine, by running a few real micro-batches of small models: the predictor's only fit.

Models of other widths, depths and heads, other shapes, and other splits follow from the rates: none of them
was run. A forward and a backward pass of each trial gives one equation; the rates are their solution in
relative least squares, none below zero, each drawn a little to what is usual so that kinds which hardly
appear in the trials keep a sensible rate. Every time is taken relative to a reference beside it, since other
programs may slow the machine for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from scipy.optimize import nnls

from hocket.core import files
from hocket.core.errors import UsageError
from hocket.parallel.precision import Precision
from hocket.planning import trials
from hocket.planning.demand import F64, KINDS
from hocket.planning.rates import PassRates, Rates
from hocket.planning.reference import Reference
from hocket.planning.trials import Timing

VERSION = 1

_PRIOR = 0.02
"""Weight of what is usual against one run."""

USUAL_FLOPS, USUAL_VALUES = 8e10, 1.5e9
_USUAL: Mapping[str, float] = {
    "products": 1 / USUAL_FLOPS,
    "uneven_products": 0.5 / USUAL_FLOPS,
    "scores": 2 / USUAL_FLOPS,
    "tiled_scores": 2 / USUAL_FLOPS,
    "convolutions": 4 / USUAL_FLOPS,
    "tiles": 1e-4,
    "trellis": 2e-8,
    "steps_of_trellis": 1e-4,
    "blocks": 5e-4,
    "micro_batch": 2e-3,
}
"""Seconds of one of each kind on one core; the others are values that are read or written."""

_FIELDS = ("version", "machine", "device", "threads", "reference")


@dataclass(frozen=True)
class Calibration:
    """Rates of one device of a machine, and where they are from."""

    version: int
    machine: Mapping[str, Any]
    """As :func:`hocket.hardware.device.describe` says it."""
    device: str
    threads: int
    reference: float
    """Seconds of :class:`~hocket.planning.reference.Reference` when nothing else runs."""
    rates: Rates

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        told = {name: getattr(self, name) for name in _FIELDS}
        files.write_json(path, {**told, "rates": self.rates.as_dict()})


def read(path: Path) -> Calibration:
    """What :meth:`Calibration.write` wrote; raises :class:`UsageError` for anything else."""
    again = "Measure again: hocket plan --calibrate."
    what = "rates of a machine"
    given = files.read_versioned(path, what, VERSION, again)
    try:
        rates = Rates.from_dict(given["rates"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not {what}: {error!r}", again) from error
    numbers = {len(way) for each in rates.passes.values() for way in (each.forward, each.backward)}
    if numbers != {len(KINDS)}:
        raise UsageError(f"{path}: rates of {sorted(numbers)} kinds of work, not {len(KINDS)}", again)
    return Calibration(rates=rates, **{name: given[name] for name in _FIELDS})


def calibrate(
    device: torch.device,
    machine: Mapping[str, Any],
    told: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Calibration:
    """Measure the rates of ``device`` with as many threads as this process has; about a minute on a core.

    ``told`` hears what is being run, how many parts are done, and how many there are.
    """
    reference = Reference(device)
    precisions: tuple[Precision, ...] = get_args(Precision)
    chosen = trials.all_trials()
    of, done = len(chosen) * len(precisions) + 1, 0
    passes: dict[Precision, PassRates] = {}
    errors: list[float] = []
    for precision in precisions:
        timings: list[Timing] = []
        for trial in chosen:
            told(f"{precision}, {trial.config.hidden_size} channels", done, of)
            timings += trials.run(trial, precision, device, reference)
            done += 1
        passes[precision], error = fit(timings)
        errors.append(error)
    told("optimiser", done, of)
    optimiser, coding, average = trials.run_steps(device, reference)
    told("done", of, of)
    rates = Rates(passes, optimiser, coding, average, spread=max(errors))
    return Calibration(VERSION, machine, device.type, torch.get_num_threads(), reference.least, rates)


def fit(timings: Sequence[Timing]) -> tuple[PassRates, float]:
    """Rates by non-negative least squares on relative errors; the median relative error of both passes."""
    counts = [timing.counts for timing in timings]
    taken = [np.array([getattr(each, way) for each in timings]) for way in ("forward", "backward")]
    rates = [solve(counts, seconds, times) for seconds, times in zip(taken, (1.0, 2.0), strict=True)]
    said = np.array(counts) @ (rates[0] + rates[1])
    forward, backward = (tuple(each.tolist()) for each in rates)
    return PassRates(forward, backward), float(np.median(np.abs(said / (taken[0] + taken[1]) - 1)))


def solve(counts: Sequence[F64], seconds: Sequence[float] | F64, times: float = 1.0) -> F64:
    """Rates of :data:`KINDS` of passes with these ``counts`` that took so many ``seconds``.

    None is below zero; each is drawn a little to ``times`` what is usual of a forward pass.
    """
    measured = np.asarray(seconds, np.float64)
    usual = times * np.array([_USUAL.get(kind, 1 / USUAL_VALUES) for kind in KINDS])
    rows = np.vstack((np.array(counts) * usual / measured[:, None], _PRIOR * np.eye(len(KINDS))))
    wanted = np.concatenate((np.ones(len(measured)), np.full(len(KINDS), _PRIOR)))
    return np.asarray(nnls(rows, wanted)[0] * usual, np.float64)
