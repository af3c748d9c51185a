"""How long a dropout mask takes: ours, and the generators one would think of first.

Every candidate turns ``x`` (rows x frames x channels) into dropped-out ``x``, forward alone, on one
thread. Candidates take turns, so that a busy machine slows all alike; the minimum counts.

    python benchmarks/dropout_generators.py [--rounds 60] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hocket.core import seeds
from hocket.hardware.device import cpu_name
from hocket.model.dropout import DropoutMasks, Site, dropout, keep_scale

RATE = 0.1
SITE = Site("site", RATE)
SHAPES = ((8, 75, 128), (8, 75, 512), (16, 125, 1024))
Candidate = Callable[[torch.Tensor], torch.Tensor]


def hocket_site(x: torch.Tensor) -> torch.Tensor:
    """One of the sites of a micro-batch: frames are hashed once for all of them."""
    return dropout(x, SITE, _masks(x.shape[0], x.shape[1]))


def hocket_alone(x: torch.Tensor) -> torch.Tensor:
    """The same with the frames' hash drawn anew."""
    return dropout(x, SITE, DropoutMasks(1, x.shape[0], x.shape[1]))


def torch_dropout(x: torch.Tensor) -> torch.Tensor:
    """What most models call; one global generator, no position."""
    return F.dropout(x, RATE, training=True)


def torch_generator(x: torch.Tensor) -> torch.Tensor:
    """A generator seeded per site: keyed, but a slice must draw the whole."""
    generator = torch.Generator().manual_seed(seeds.key("site", 1) >> 1)
    return x * torch.empty_like(x).bernoulli_(1 - RATE, generator=generator).mul_(1 / (1 - RATE))


def numpy_philox(x: torch.Tensor) -> torch.Tensor:
    """Counter-based bytes of numpy: keyed, and slices could be reached by jumping."""
    lanes = seeds.generator("site", 1).integers(0, 256, size=tuple(x.shape), dtype=np.uint8)
    keep = torch.from_numpy(lanes).ge_(round(RATE * 256))
    return x * keep.to(x.dtype).mul_(keep_scale(RATE))


def numpy_sfc(x: torch.Tensor) -> torch.Tensor:
    """The fastest generator of numpy generator, for its bytes."""
    lanes = np.random.Generator(np.random.SFC64(1)).integers(0, 256, size=tuple(x.shape), dtype=np.uint8)
    keep = torch.from_numpy(lanes).ge_(round(RATE * 256))
    return x * keep.to(x.dtype).mul_(keep_scale(RATE))


CANDIDATES: dict[str, Candidate] = {
    "hocket, a site of a micro-batch": hocket_site,
    "hocket, alone": hocket_alone,
    "torch F.dropout": torch_dropout,
    "torch.Generator seeded per site": torch_generator,
    "numpy Philox bytes": numpy_philox,
    "numpy SFC64 bytes": numpy_sfc,
}


def measure(x: torch.Tensor, rounds: int) -> dict[str, float]:
    """Least microseconds of each candidate, taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for turn in range(rounds + 3):
        for name, candidate in CANDIDATES.items():
            start = time.perf_counter()
            candidate(x)
            if turn >= 3:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) * 1e6 for name, values in seconds.items()}


def report(rounds: int) -> str:
    """The result file: command, machine, versions, tables."""
    lines = [
        "# Dropout generators on one CPU thread",
        "",
        f"- date: {datetime.date.today().isoformat()}",
        f"- command: `python benchmarks/dropout_generators.py --rounds {rounds}`",
        f"- machine: {cpu_name()}, one thread",
        f"- versions: Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}",
        f"- rate {RATE}; microseconds, minimum of {rounds} rounds in which the candidates take turns",
        "",
    ]
    header = [f"{'x'.join(map(str, shape))} {_name(dtype)}" for shape in SHAPES for dtype in _DTYPES]
    lines += ["| generator | " + " | ".join(header) + " |", "|---" * (len(header) + 1) + "|"]
    columns = [measure(torch.randn(shape).to(dtype), rounds) for shape in SHAPES for dtype in _DTYPES]
    for name in CANDIDATES:
        lines.append(f"| {name} | " + " | ".join(f"{column[name]:.0f}" for column in columns) + " |")
    ratios = [column["torch F.dropout"] / column["hocket, a site of a micro-batch"] for column in columns]
    lines += ["", f"F.dropout takes {min(ratios):.1f} to {max(ratios):.1f} times as long as a hocket site."]
    return "\n".join(lines) + "\n"


_DTYPES = (torch.float32, torch.bfloat16)
_MASKS: dict[tuple[int, int], DropoutMasks] = {}


def _masks(rows: int, frames: int) -> DropoutMasks:
    if (rows, frames) not in _MASKS:
        _MASKS[rows, frames] = DropoutMasks(1, rows, frames)
    return _MASKS[rows, frames]


def _name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def main() -> None:
    """Measure and print; with ``--out`` also write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = report(options.rounds)
    sys.stdout.write(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
