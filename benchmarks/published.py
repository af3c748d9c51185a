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
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hocket import __version__
from hocket.hardware import catalogue
from hocket.planning.demand import KINDS
from hocket.planning.fabric import AlphaBeta, Line
from hocket.planning.nominal import ACCELERATOR, rates_of

_PASSES = 24
"""Values that a train step reads and writes for each hidden value of a layer: gates, masks, gradients."""


@dataclass(frozen=True)
class Network:
    """A stack of layers, as far as its time is concerned."""

    parameters: float
    hidden_values: float
    """Of a frame, over all layers."""
    kernels: float
    """That a micro-batch starts, forward and backward: recurrent layers go frame by frame."""
    products: float | None = None
    """Of a weight with a value, for a frame; without a word every parameter meets every frame once."""


@dataclass(frozen=True)
class Chip:
    """Peak operations a second in fp32, and bytes a second of the memory."""

    flops: float
    bandwidth: float
    half: float | None = None
    """Peak operations a second where the paper computes in fp16; passes then move half of the bytes."""


def of_catalogue(name: str, half: bool = False) -> Chip:
    """A card's figures."""
    card = catalogue.find(name)
    assert card.memory_bandwidth is not None
    return Chip(
        card.rates["fp32"].value, card.memory_bandwidth.value, card.rates["fp16"].value if half else None
    )


K20X = Chip(3.95e12, 250e9)
"""Not in the catalogue, which begins with newer ones: NVIDIA, Tesla K20X board specification, 2013; read at
https://www.microway.com/hpc-tech-tips/nvidia-tesla-k20-gpu-accelerator-kepler-gk110-up-close/."""


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


@dataclass(frozen=True)
class Step:
    """Seconds, and what most of them go to."""

    seconds: float
    bound: str


def step_seconds(
    network: Network,
    setting: Setting,
    frames: float,
    share: float = 1.0,
    beside: bool = True,
    coding: str | None = None,
) -> Step:
    """Of a step of ``frames`` on every device; ``share`` of the gradients' bytes is sent in it.

    ``beside``: sending goes on beside computing; ``coding`` is the compression that the planner counts.
    """
    chip = setting.chip
    narrow = {} if chip.half is None else {"bf16": chip.half}
    found = rates_of({"fp32": chip.flops, **narrow}, chip.bandwidth)
    forward = found.passes["fp32" if chip.half is None else "bf16"].forward
    product, value = (forward[KINDS.index(kind)] for kind in ("products", "operands"))
    parts = {
        "products": 6 * (network.products or network.parameters) * frames * product,
        "passes": value * (_PASSES * network.hidden_values * frames + 3 * network.parameters),
    }
    computing = sum(parts.values())
    kernels = network.kernels * ACCELERATOR.kernel_seconds
    if kernels > computing:
        computing, parts = kernels, {"kernels": kernels}
    inside, between = Line(1e-5, setting.inside), Line(2e-5, setting.between)
    fabric = AlphaBeta("as published", setting.per_host, inside, between)
    sending = fabric.seconds("all_reduce", [range(setting.devices)], 4 * share * network.parameters)
    computing += found.optimiser.seconds(network.parameters)
    if coding is not None and setting.devices > 1:
        computing += found.coding[coding].seconds(network.parameters)
    shown = max(0.0, sending - computing) if beside else sending
    parts["sending"] = sending if beside and shown else shown
    return Step(computing + shown, max(parts, key=lambda name: parts[name]))


@dataclass(frozen=True)
class Row:
    """One published number."""

    what: str
    published: float
    unit: str
    source: str
    predict: Callable[[], Step]
    """Its seconds stand for the number."""
    assumed: str


IBM = bidirectional_lstm(260, 512, 6, 256, 32000, 21)
IBM_FRAMES = 16 * 2000 * 3600 * 100
"""Sixteen epochs of 2,000 hours, a hundred frames a second."""


def ibm_hours(setting: Setting, batch: int) -> Step:
    """Of the whole training: ``batch`` sequences of 21 frames over all devices in a step."""
    frames = 21.0 * batch / setting.devices
    return _times(step_seconds(IBM, setting, frames), IBM_FRAMES / (21 * batch) / 3600)


def _times(step: Step, number: float) -> Step:
    return replace(step, seconds=step.seconds * number)


_MEDIUM = (2, 2, 3, 4, 3, 2), (192, 256, 384, 512, 384, 256), (512, 768, 1024, 1536, 1024, 768)
_SMALL = (2, 2, 2, 2, 2, 2), (192, 256, 256, 256, 256, 256), (512, 768, 768, 768, 768, 768)
"""Blocks, channels and inner channels of each stack."""


def _stacks(sizes: tuple[tuple[int, ...], ...]) -> list[tuple[int, int, int, int]]:
    blocks, channels, inner = sizes
    return list(zip(blocks, channels, inner, (1, 2, 4, 8, 4, 2), strict=True))


ZIPFORMER_HOURS = 2880
"""Of LibriSpeech in an epoch, 960 hours with two other speeds of them (0.9 and 1.1)."""


def zipformer(parameters: float, flops: float, stacks: Sequence[tuple[int, int, int, int]]) -> Network:
    """Of stacks of (blocks, channels, inner channels, frames that are one), and operations for 30 seconds.

    Frames are those of the first stack, 50 in a second. A block has three feed-forward layers, and fourteen
    more tensors as wide as its channels; before them are convolutions, after them a joiner (5 places each).
    """
    hidden = sum(blocks * (3 * inner + 14 * channels) / rate for blocks, channels, inner, rate in stacks)
    around = 6 * 128 * 19 + 5 * (2 * 512 + 3 * 500) / 2
    kernels = 3 * 120 * sum(blocks for blocks, _, _, _ in stacks)
    return Network(parameters, hidden + around, kernels, flops / 2 / 30 / 50)


def zipformer_hours(network: Network, setting: Setting, seconds: float) -> Step:
    """Of an epoch, with so many seconds of speech on each device in a step."""
    steps = ZIPFORMER_HOURS * 3600 / seconds / setting.devices
    return _times(step_seconds(network, setting, 50 * seconds), steps / 3600)


def speed_up(
    network: Network, setting: Setting, batch: int, share: float, beside: bool, coding: str | None = None
) -> Step:
    """Of all devices over one with the same batch."""
    alone = Setting(setting.chip, 1, 1, setting.inside, setting.between)
    one = step_seconds(network, alone, batch)
    many = step_seconds(network, setting, batch / setting.devices, share, beside, coding)
    return replace(many, seconds=one.seconds / many.seconds)


def frames_per_second(network: Network, setting: Setting, batch: int) -> Step:
    """Thousands that one device learns from in a second."""
    alone = step_seconds(network, replace(setting, devices=1, per_host=1), batch)
    return replace(alone, seconds=batch / alone.seconds / 1000)


_ONE_BIT = "Seide et al., Interspeech 2014, abstract"
_ZIPFORMER = (
    "icefall pull request 1058: ~1h7m and ~1h30m; settings: its RESULTS.md; operations: arXiv:2310.11230"
)


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
        ("16 P100, AD-PSGD", 14.0, "1904.04956", Setting(p100, 16, 4, pcie, ethernet), 2560),
        ("32 V100, hybrid", 11.5, "1904.04956", Setting(v100, 32, 8, nvlink, ethernet), 2560),
        ("64 V100, Ethernet", 5.2, "1907.05701", Setting(v100, 64, 8, nvlink, ethernet), 8192),
        ("64 V100, P9", 2.28, "2002.01119", Setting(v100, 64, 6, nvlink, infiniband), 8192),
        ("128 V100, P9", 1.98, "2002.01119", Setting(v100, 128, 6, nvlink, infiniband), 8192),
    )
    found = [
        Row(
            f"SWB-2000, {what}",
            hours,
            "hours",
            f"arXiv:{paper}, abstract",
            partial(ibm_hours, setting, batch),
            summit if "P9" in what else f"hosts of {setting.per_host}; a step of {batch:,} sequences",
        )
        for what, hours, paper, setting, batch in ibm
    ]
    for frames, thousands, times in ((2880, 27.0, 3.6), (16384, 51.0, 6.3)):
        found.append(
            Row(
                f"DNN of 1-bit SGD, 1 K20X, {frames:,} frames",
                round(thousands / times, 1),
                "thousand frames/s",
                _ONE_BIT,
                partial(frames_per_second, dnn, old, frames),
                "their speed on 8 over their speed-up; seven layers of 2,048, 46 M parameters",
            )
        )
        found.append(
            Row(
                f"1-bit SGD, 8 K20X, {frames:,} frames",
                times,
                "times",
                _ONE_BIT,
                partial(speed_up, dnn, old, frames, one_bit, False, "one_bit"),
                "PCIe 2 at 5 GB/s; seven layers of 2,048, 46 M parameters",
            )
        )
    medium = zipformer(65.6e6, 62.9e9, _stacks(_MEDIUM))
    small = zipformer(23.3e6, 40.8e9, _stacks(_SMALL))
    fast = of_catalogue("V100 SXM2 32GB", half=True)
    for name, network, devices, seconds, hours in (("M", medium, 4, 1000, 1.12), ("S", small, 2, 1500, 1.5)):
        found.append(
            Row(
                f"Zipformer-{name}, {devices} V100, an epoch",
                hours,
                "hours",
                _ZIPFORMER,
                partial(zipformer_hours, network, Setting(fast, devices, devices, nvlink, ethernet), seconds),
                f"fp16; {seconds:,} s of speech on a device in a step; 2,880 h in an epoch",
            )
        )
    found.append(
        Row(
            "BMUF, 16 GPUs, bidirectional LSTM",
            15.0,
            "times",
            "Chen & Huo, ICASSP 2016, abstract: almost linear",
            partial(speed_up, blstm, Setting(K20X, 16, 4, 5e9, 5e9), server, block, False),
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
        f"- hocket {__version__}, Python {platform.python_version()}; arithmetic alone, on any machine",
        "",
        "| what | published | predicted | error | bound by | source | assumed |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        said = row.predict()
        lines.append(
            f"| {row.what} | {row.published:g} {row.unit} | {said.seconds:.2f} "
            f"| {said.seconds / row.published - 1:+.0%} | {said.bound} | {row.source} | {row.assumed} |"
        )
    return "\n".join([*lines, "", WHY])


WHY = """\
*Bound by* is what most of a step goes to in the prediction: products with weights, passes over values in
memory, kernels that begin one after the other, or sending.

What was read and what was not. Times, devices and speed-ups are those of the abstracts, of the pull request
and of its table of results; peak rates and bandwidths are the catalogue's, which says where each was read.
From memory of the papers' text are the shape of IBM's model (six layers of 512 cells each way, a bottleneck
of 256, 32,000 outputs: 43 M parameters, or the 165 MB that the papers name), its sixteen epochs, and the
operations of Zipformers.

Why they are off: what seems likely, since none of these systems was at hand to be measured.

- **16 P100**: computing decides, and half of the peak is about what these products reach.
- **64 V100 of P9, and one K20X**: predicted too slow. Both reach more than the prediction allows in all:
  the K20X 51 and 55 % of its peak over all parameters and frames, and P9's V100 36 %, epochs and reading
  included, where the prediction has 37 and 29 %. It takes products to reach half of the peak, and adds
  passes of kernels that do one thing each; the kernels of these systems seem to have done several. No
  figure of these rows turned out to be wrong: what is off are the stated efficiencies, which are the
  planner's and are not fitted here.
- **32 V100, and 64 V100 over Ethernet**: published times are twice those predicted. The prediction hides
  all sending behind computing, and sends at the full rate of the link. The same 64 devices on a faster
  network took less than half of the time, which points to sending.
- **128 V100**: 64 sequences a device, frame by frame, are products too small for half of the peak.
- **1-bit SGD**: the small mini-batch has 360 frames a device. Quantising, sending and adding up took longer
  there than two thirds of the memory's bandwidth and of the link's would have it.
- **Zipformer**: predicted four times too fast. What was published is 3 % of the peak of fp16 (4 of 125
  tera-operations a second on each device), so that products are not what such a model waits for. What is
  counted beside them are passes over hidden values. Tables of attention, statistics of balancers and
  whiteners, the transducer's lattice, casts of mixed precision, the optimiser's passes, reading and waiting
  are not, and where products are so fast these are what is left. For such a model this is no prediction to
  rely on.
- **BMUF**: agreeing once in 240 steps costs next to nothing in either.
"""


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
