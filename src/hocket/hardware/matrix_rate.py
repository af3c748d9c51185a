"""The rate of matrix products that a device reaches: the ceiling of what a training step can reach.

A training step is mostly matrix products. How many operations a second it does, as a share of what plain
products do on the same device, in the same precision and with as many threads, says how much of its time
goes elsewhere: into element-wise passes, reading, waiting. Compare "model FLOPs utilisation" in Chowdhery
et al., "PaLM", JMLR 2023; there the maker's figure for the device stands below, here a measured one.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from hocket.core import clock

Shape = tuple[int, int, int]
"""(M, K, N): an (M, K) matrix times a (K, N) one."""

_SQUARE = {"cpu": 1024, "cuda": 8192}
_SECONDS = 0.05
_REPEATS = 3


def matrix_rate(device: torch.device, dtype: torch.dtype, shapes: Iterable[Shape] = ()) -> float:
    """Operations a second (a multiply-add is two) of the fastest of several shapes on ``device``.

    A large square product is always among them; ``shapes`` may add those of a model. Each runs for some
    hundredths of a second, a few times, and the fastest counts. All ranks of a host should measure at
    the same time, since they will compute at the same time.
    """
    side = _SQUARE.get(device.type, 1024)
    rate = max(product_rate(device, dtype, shape, _SECONDS) for shape in [(side, side, side), *shapes])
    if device.type == "cuda":
        torch.cuda.empty_cache()  # the training that follows has other shapes
    return rate


def product_rate(device: torch.device, dtype: torch.dtype, shape: Shape, seconds: float) -> float:
    """Operations a second in products of one shape: the fastest of a few runs of ``seconds`` each."""
    rows, inner, columns = shape
    left_MK = torch.full((rows, inner), 0.5, dtype=dtype, device=device)
    right_NK = torch.full((columns, inner), 0.5, dtype=dtype, device=device)  # as linear layers hold it
    out_MN = torch.empty((rows, columns), dtype=dtype, device=device)

    def run(times: int) -> float:
        start = clock.monotonic()
        for _ in range(times):
            torch.mm(left_MK, right_NK.t(), out=out_MN)
        finish(device)
        return clock.monotonic() - start

    run(1)  # the first call prepares kernels
    times = max(1, round(seconds / max(run(1), 1e-6)))
    return 2.0 * rows * inner * columns * times / min(run(times) for _ in range(_REPEATS))


def finish(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
