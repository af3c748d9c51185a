"""Where a train step stands under a device's roof: operations for each byte, and operations a second.

Williams, Waterman & Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 2009.
"""

from __future__ import annotations

from dataclasses import dataclass

from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.activations import ELEMENT
from hocket.planning.demand import KINDS, Cut, Shape, demand
from hocket.planning.rates import Rates

_TRAIN = 3
"""A forward pass, and a backward pass of twice as much."""
_PARTS = {
    "products with weights": (("products",), ("operands", "weights")),
    "attention": (("scores", "tiled_scores"), ("table",)),
    "subsampling and depthwise convolutions": (("convolutions",), ("maps",)),
    "element-wise passes": ((), ("near_values", "far_values", "vocabulary")),
}
"""Kinds of work that count operations, and that count values."""


@dataclass(frozen=True)
class Spot:
    """A part of a step."""

    name: str
    intensity: float
    """Operations for each byte that is moved."""
    flops_per_second: float
    share: float
    """Of the time of a micro-batch."""


def spots(
    config: ModelConfig, precision: Precision, shape: Shape, cut: Cut, rates: Rates
) -> tuple[Spot, ...]:
    """Of a micro-batch of this shape; parts without operations of their own count one for each value."""
    counts = dict(zip(KINDS, demand(config, shape, cut).tolist(), strict=True))
    seconds = rates.passes[precision].by_kind(demand(config, shape, cut))
    total = sum(seconds.values())
    found = []
    for name, (operations, values) in _PARTS.items():
        moved = _TRAIN * ELEMENT[precision] * sum(counts[kind] for kind in values)
        done = _TRAIN * sum(counts[kind] for kind in operations or values)
        took = sum(seconds[kind] for kind in (*operations, *values))
        if moved > 0 and took > 0:
            found.append(Spot(name, done / moved, done / took, took / total))
    return tuple(found)
