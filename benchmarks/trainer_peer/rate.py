"""The rate of plain matrix products on one thread, in the middle of some: ``rate.py PRECISION``."""

from __future__ import annotations

import statistics
import sys

import torch

from hocket.hardware.matrix_rate import matrix_rate

_REPEATS = 8


def main() -> None:
    """Print operations a second."""
    torch.set_num_threads(1)
    dtype = torch.bfloat16 if sys.argv[1] == "bf16" else torch.float32
    print(statistics.median(matrix_rate(torch.device("cpu"), dtype) for _ in range(_REPEATS)))


if __name__ == "__main__":
    main()
