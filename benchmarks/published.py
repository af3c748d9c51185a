"""Published training times of acoustic models, predicted from catalogue data alone: nothing is fitted.

The models of those papers are not hocket's, so that what they ask of a device is counted here from what the
papers say of them: operations of products with weights, and the values that element-wise passes move. From
there on everything is the planner's: peak rates and bandwidths of the catalogue at the planner's stated
efficiencies, collectives on the network of the paper, and overlap. Each row has its source. Where a paper
does not say something, what is assumed stands in the row.

    python benchmarks/published.py [--out FILE]
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hocket.hardware import catalogue
from hocket.planning.fabric import AlphaBeta, Line
from hocket.planning.nominal import ACCELERATOR, rates_of

_PASSES = 24
"""Values that a train step reads and writes for each hidden value of a layer: gates, masks, gradients."""


@dataclass(frozen=True)
class Network:
    """A stack of layers, as far as its time is concerned."""

    parameters: float
    """Each meets every frame once."""
    hidden_values: float
    """Of a frame, over all layers."""
    kernels: float
    """That a micro-batch starts, forward and backward: recurrent layers go frame by frame."""


@dataclass(frozen=True)
class Chip:
    """Peak operations a second in fp32, and bytes a second of the memory."""

    flops: float
    bandwidth: float


def of_catalogue(name: str) -> Chip:
    """A card's figures."""
    card = catalogue.find(name)
    assert card.memory_bandwidth is not None
    return Chip(card.rates["fp32"].value, card.memory_bandwidth.value)


K20X = Chip(3.95e12, 250e9)
"""Not in the catalogue, which begins with newer ones: NVIDIA, Tesla K20X board specification, 2013."""


@dataclass(frozen=True)
class Setting:
    """Devices, and how they are joined."""

    chip: Chip
    devices: int
    per_host: int
    inside: float
    """Bytes a second between devices of a host."""
    between: float
    """Out of a host."""


def bidirectional_lstm(
    inputs: int, cells: int, layers: int, bottleneck: int, outputs: int, frames: int
) -> Network:
    """Of ``cells`` in each direction, unrolled over ``frames``, and a bottleneck before the output layer."""
    first = 2 * 4 * cells * (inputs + cells)
    others = (layers - 1) * 2 * 4 * cells * (3 * cells)
    last = 2 * cells * bottleneck + bottleneck * outputs
    return Network(first + others + last, layers * 2 * 8 * cells + 3 * outputs, 3 * layers * frames)


def feed_forward(inputs: int, hidden: int, layers: int, outputs: int) -> Network:
    """Fully connected layers."""
    weights = inputs * hidden + (layers - 1) * hidden * hidden + hidden * outputs
    return Network(weights, 3 * layers * hidden + 3 * outputs, 9 * layers)


def step_seconds(
    network: Network, setting: Setting, frames: float, share: float = 1.0, beside: bool = True
) -> float:
    """Of a step of ``frames`` on every device; ``share`` of the gradients' bytes is sent in it."""
    rates = rates_of({"fp32": setting.chip.flops}, setting.chip.bandwidth).passes["fp32"]
    product, value = rates.forward[0], rates.forward[1]
    computing = 6 * network.parameters * frames * product
    computing += value * (_PASSES * network.hidden_values * frames + 3 * network.parameters)
    computing = max(computing, network.kernels * ACCELERATOR.kernel_seconds)
    inside, between = Line(1e-5, setting.inside), Line(2e-5, setting.between)
    fabric = AlphaBeta("as published", setting.per_host, inside, between)
    sending = fabric.seconds("all_reduce", [range(setting.devices)], 4 * share * network.parameters)
    computing += 12 * value * network.parameters  # the step itself
    return max(computing, sending) if beside else computing + sending


@dataclass(frozen=True)
class Row:
    """One published number."""

    what: str
    published: float
    unit: str
    source: str
    predict: Callable[[], float]
    bound: str
    """What decides it."""
    assumed: str


IBM = bidirectional_lstm(260, 512, 6, 256, 32000, 21)
IBM_FRAMES = 16 * 2000 * 3600 * 100
"""Sixteen epochs of 2,000 hours, a hundred frames a second."""


def ibm_hours(setting: Setting, batch: int) -> float:
    """Of the whole training: ``batch`` sequences of 21 frames over all devices in a step."""
    frames = 21.0 * batch / setting.devices
    return IBM_FRAMES / (21 * batch) * step_seconds(IBM, setting, frames) / 3600


def speed_up(network: Network, setting: Setting, batch: int, share: float, beside: bool) -> float:
    """Of all devices over one with the same batch."""
    alone = Setting(setting.chip, 1, 1, setting.inside, setting.between)
    one = step_seconds(network, alone, batch)
    return one / step_seconds(network, setting, batch / setting.devices, share, beside)


def rows() -> list[Row]:
    """All that is predicted."""
    nvlink, pcie, ethernet, infiniband = 60e9, 10e9, 12.5e9, 25e9
    p100, v100 = of_catalogue("P100"), of_catalogue("V100")
    dnn = feed_forward(429, 2048, 7, 9304)
    one_bit = (1 + 64 / 2048) / 32
    blstm = bidirectional_lstm(80, 512, 6, 1024, 9000, 40)
    server, block = 16 * 160 * 40, 1 / 240
    old = Setting(K20X, 8, 8, 5e9, 5e9)
    summit = "200 Gbit/s out of a host of 6; a step of 8,192 sequences"
    ibm = (
        ("16 P100, AD-PSGD", 14.0, "1904.04956", Setting(p100, 16, 4, pcie, ethernet), 2560, "computing"),
        ("32 V100, hybrid", 11.5, "1904.04956", Setting(v100, 32, 8, nvlink, ethernet), 2560, "sending"),
        ("64 V100, Ethernet", 5.2, "1907.05701", Setting(v100, 64, 8, nvlink, ethernet), 8192, "sending"),
        ("64 V100, P9", 2.28, "2002.01119", Setting(v100, 64, 6, nvlink, infiniband), 8192, "computing"),
        ("128 V100, P9", 1.98, "2002.01119", Setting(v100, 128, 6, nvlink, infiniband), 8192, "sending"),
    )
    found = [
        Row(
            f"SWB-2000, {what}",
            hours,
            "hours",
            f"arXiv:{paper}",
            partial(ibm_hours, setting, batch),
            bound,
            summit if "P9" in what else f"hosts of {setting.per_host}; a step of {batch:,} sequences",
        )
        for what, hours, paper, setting, batch, bound in ibm
    ]
    for frames, times in ((2880, 3.6), (16384, 6.3)):
        found.append(
            Row(
                f"1-bit SGD, 8 K20X, {frames:,} frames",
                times,
                "times",
                "Seide et al., Interspeech 2014",
                partial(speed_up, dnn, old, frames, one_bit, False),
                "both",
                "PCIe 2 at 5 GB/s; seven layers of 2,048, 46 M parameters",
            )
        )
    found.append(
        Row(
            "BMUF, 16 GPUs, bidirectional LSTM",
            15.0,
            "times",
            "Chen & Huo, ICASSP 2016: almost linear",
            partial(speed_up, blstm, Setting(K20X, 16, 4, 5e9, 5e9), server, block, False),
            "computing",
            "15 of 16 for almost linear; an agreement every 240 steps",
        )
    )
    return found


def report() -> str:
    """The result file."""
    lines = [
        "# Published results, predicted from catalogue data alone",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        "- command: `python benchmarks/published.py`",
        f"- stated efficiencies: products {ACCELERATOR.products:.0%} of the peak, passes "
        f"{ACCELERATOR.memory:.0%} of the bandwidth; nothing is fitted",
        "",
        "| what | published | predicted | error | bound by | source | assumed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        said = row.predict()
        lines.append(
            f"| {row.what} | {row.published:g} {row.unit} | {said:.2f} | {said / row.published - 1:+.0%} | "
            f"{row.bound} | {row.source} | {row.assumed} |"
        )
    return "\n".join([*lines, ""])


def main() -> None:
    """Predict and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    text = report()
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
