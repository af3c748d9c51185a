"""Places to recognise at, for the planner, made of round numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from hocket.planning.demand import KINDS
from hocket.planning.recognizing.forecast import Site
from hocket.planning.recognizing.rates import WAYS, RecognitionRates
from hocket.planning.recognizing.speech import Speech

PER_FRAME = {"torch fp32": 4e-5, "onnx fp32": 2e-5, "torch bf16": 2e-5, "onnx int8": 1e-5}
"""Seconds for a frame after subsampling; nothing else takes time."""


def rates(**changes: Any) -> RecognitionRates:
    """Time goes by frames alone: what ``trellis`` counts."""
    encoding = {
        way: tuple(PER_FRAME[str(way)] if kind == "trellis" else 0.0 for kind in KINDS) for way in WAYS
    }
    return RecognitionRates(**{"encoding": encoding, "starting": 2.0, **changes})


def site(**changes: Any) -> Site:
    given: dict[str, Any] = {
        "name": "paper",
        "rates": rates(),
        "per_host": 8,
        "num_devices": 8,
        "device": "cuda",
        "memory_bytes": 16e9,
        "base_bytes": 1e9,
        "reading": 1e-3,
    }
    return Site(**{**given, **changes})


def speech(seconds: float = 10.0, hours: float | None = None) -> Speech:
    return Speech(np.array([round(100 * seconds)], np.int64), hours)
