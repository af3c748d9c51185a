"""How fast a device recognises, in each way that hocket has: seconds from counts, as for training.

Counted is a forward pass (:func:`~hocket.planning.demand.demand`) without a loss; ``trellis`` then counts the
frames that a greedy search goes through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hocket.core import files
from hocket.core.errors import UsageError
from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.candidate import Crowding
from hocket.planning.demand import F64, KINDS, Shape, demand
from hocket.planning.nominal import Efficiency, rates_of
from hocket.planning.rates import BY_ARITHMETIC

VERSION = 1
"""Of the file."""

Backend = Literal["torch", "onnx"]


@dataclass(frozen=True)
class Way:
    """What computes, and in which precision its products are."""

    backend: Backend
    precision: Literal["fp32", "bf16", "int8"]

    def __str__(self) -> str:
        """``onnx int8``."""
        return f"{self.backend} {self.precision}"

    @property
    def same_text(self) -> bool:
        """True where transcripts are those of the model, but for float rounding; others cost words."""
        return self.precision == "fp32"


WAYS = (Way("torch", "fp32"), Way("onnx", "fp32"), Way("torch", "bf16"), Way("onnx", "int8"))
"""All of them; of those that are as good the first is the simplest."""

STARTING = 5.0
"""Seconds until a worker is ready, where that was not measured."""


@dataclass(frozen=True)
class RecognitionRates:
    """A device, or one core of a processor, as far as recognition needs to know it."""

    encoding: Mapping[Way, tuple[float, ...]]
    """Seconds of one of each of :data:`~hocket.planning.demand.KINDS`, encoder and greedy search; a way that
    is not here cannot be had."""
    starting: float
    """Seconds until a worker is ready: interpreter, libraries and a model."""
    spread: float = 0.0
    """Median relative error of what these rates say, over the runs that they come from; 0 where none."""

    def seconds(self, config: ModelConfig, way: Way, rows: int, frames: int) -> float:
        """Of a micro-batch of ``rows`` utterances padded to ``frames``."""
        return float(counts_of(config, rows, frames) @ np.asarray(self.encoding[way]))

    def slowed(self, crowding: Crowding) -> RecognitionRates:
        """The same where all devices of a host compute at once."""
        factors = np.array(
            [crowding.arithmetic if kind in BY_ARITHMETIC else crowding.memory for kind in KINDS]
        )
        slower = {way: tuple((np.asarray(each) * factors).tolist()) for way, each in self.encoding.items()}
        return replace(self, encoding=slower)


@lru_cache(maxsize=10_000)
def counts_of(config: ModelConfig, rows: int, frames: int) -> F64:
    """Counts by :data:`~hocket.planning.demand.KINDS` of recognising one micro-batch."""
    return demand(config, Shape(rows, frames, 0))


def nominal(
    peaks: Mapping[str, float], efficiency: Efficiency, ways: tuple[Way, ...] = WAYS
) -> RecognitionRates:
    """Rates of a device with these peaks (operations a second by dtype, ``memory`` in bytes a second).

    At the efficiencies of a train step's forward pass: ONNX Runtime's are taken to be torch's. A way whose
    dtype is no faster than fp32 has no units there, and is left out. int8's products alone are of integers,
    the rest of it is fp32.
    """
    flops: dict[Precision, float] = {"fp32": peaks["fp32"]}
    if peaks.get("bf16", 0.0) > peaks["fp32"]:
        flops["bf16"] = peaks["bf16"]
    passes = rates_of(flops, peaks["memory"], efficiency).passes
    encoding: dict[Way, tuple[float, ...]] = {}
    for way in ways:
        if way.precision == "int8" and peaks.get("int8", 0.0) > peaks["fp32"]:
            of_int8 = list(passes["fp32"].forward)
            for kind in ("products", "uneven_products"):
                of_int8[KINDS.index(kind)] = 1 / (peaks["int8"] * efficiency.products)
            encoding[way] = tuple(of_int8)
        elif way.precision != "int8" and way.precision in passes:
            encoding[way] = passes[way.precision].forward
    return RecognitionRates(encoding, STARTING)


@dataclass(frozen=True)
class MeasuredRates:
    """Rates of one device of a machine, and where they are from."""

    machine: Mapping[str, Any]
    """As :func:`hocket.hardware.device.describe` says it."""
    device: str
    rates: RecognitionRates
    lacking: Mapping[str, str]
    """Ways that were not measured, and why."""

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        encoding = {str(way): each for way, each in self.rates.encoding.items()}
        told = {"encoding": encoding, "starting": self.rates.starting, "spread": self.rates.spread}
        given = {"machine": dict(self.machine), "device": self.device, "lacking": dict(self.lacking)}
        files.write_json(path, {"version": VERSION, **given, "kinds": KINDS, "rates": told})


def read(path: Path) -> MeasuredRates:
    """What :meth:`MeasuredRates.write` wrote; raises :class:`UsageError` for anything else."""
    again = "Measure again: hocket plan --recognize MODEL --calibrate."
    what = "rates of recognition"
    given = files.read_versioned(path, what, VERSION, again)
    try:
        if tuple(given["kinds"]) != KINDS:
            raise UsageError(f"{path}: rates of other kinds of work than this hocket counts", again)
        told = given["rates"]
        encoding = {way: tuple(told["encoding"][str(way)]) for way in WAYS if str(way) in told["encoding"]}
        if {len(each) for each in encoding.values()} != {len(KINDS)}:
            raise UsageError(f"{path}: not {len(KINDS)} rates for each way of recognising", again)
        rates = RecognitionRates(encoding, float(told["starting"]), float(told["spread"]))
        return MeasuredRates(given["machine"], given["device"], rates, given["lacking"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not {what}: {error!r}", again) from error
