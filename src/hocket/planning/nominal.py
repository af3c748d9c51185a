"""Rates of a device that was never run: from its peak rates, and from how near to them training comes.

What is stated as an efficiency is the only knowledge beside the maker's figures. Matrix products reach half
of a device's peak where they are as large as an acoustic model's; passes over values reach two thirds of
the bandwidth of its memory. Between kernels a device that is fed by a processor waits for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hocket.parallel.precision import Precision
from hocket.planning.demand import KINDS
from hocket.planning.rates import PassRates, Rates, StepRates


@dataclass(frozen=True)
class Efficiency:
    """What of a device's figures a train step reaches, from 0 to 1, and what starting a kernel takes."""

    products: float = 0.5
    scores: float = 0.25
    convolutions: float = 0.1
    memory: float = 0.67
    kernel_seconds: float = 6e-6
    """From one kernel to the next where they are short; frameworks hide it behind long ones."""


ACCELERATOR = Efficiency()
PROCESSOR = Efficiency(products=0.75, scores=0.4, convolutions=0.15, memory=0.5, kernel_seconds=8e-6)
"""A core: products come nearer to what plain ones reach, since that was measured."""

_KERNELS = {"blocks": 70, "micro_batch": 60, "tiles": 12, "steps_of_trellis": 15}
"""Kernels that a forward pass starts, and half of what a backward pass does."""

_OPTIMISER_VALUES, _AVERAGE_VALUES = 12, 3
"""Values that a step reads and writes for each parameter: clipping and AdamW; the moving average."""

_CODING_VALUES = {"bf16": 6, "fp16": 6, "one_bit": 14, "power_sgd": 10, "top_k": 40}
"""The same, of compressions."""


def rates_of(
    flops: Mapping[Precision, float], bandwidth: float, efficiency: Efficiency = ACCELERATOR
) -> Rates:
    """Rates of a device with these peak operations a second and bytes a second of its memory."""
    convolving = flops["fp32"] * efficiency.convolutions
    value = 4 / (bandwidth * efficiency.memory)
    passes: dict[Precision, PassRates] = {}
    for precision, peak in flops.items():
        narrow = value / 2 if precision == "bf16" else value
        forward = {
            "products": 1 / (peak * efficiency.products),
            "uneven_products": 1 / (peak * efficiency.products),
            "operands": narrow,
            "scores": 1 / (peak * efficiency.scores),
            "table": 3 * narrow,
            "tiled_scores": 1 / (peak * efficiency.scores),
            "near_values": narrow,
            "far_values": narrow,
            "convolutions": 1 / convolving,
            "maps": 2 * value,
            "weights": 1.5 * value,
            "vocabulary": 3 * value,
            "trellis": 4 * value,
            **{kind: number * efficiency.kernel_seconds for kind, number in _KERNELS.items()},
        }
        one_way = [forward[kind] for kind in KINDS]
        passes[precision] = PassRates(tuple(one_way), tuple(2 * each for each in one_way))
    start = 20 * efficiency.kernel_seconds
    return Rates(
        passes,
        optimiser=StepRates(start, _OPTIMISER_VALUES * value),
        coding={name: StepRates(start, number * value) for name, number in _CODING_VALUES.items()},
        average=StepRates(start, _AVERAGE_VALUES * value),
    )
