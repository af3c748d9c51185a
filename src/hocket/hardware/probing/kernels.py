"""Single measurements on one device: the reference product, the triad, copies to an accelerator.

The triad is McCalpin's STREAM (1995), ``a = b + s*c``: 12 bytes an element of float32, the two read and
the one written; what a cache fetches before it writes is not counted.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from hocket.core import clock
from hocket.hardware.matrix_rate import finish

_REFERENCE_SIDE = 384
_LEAST_ARRAY = 32 * 2**20
_ON_ACCELERATOR = 256 * 2**20
_COPIED = 64 * 2**20


class Reference:
    """A product of about a millisecond on one core, the same on every machine and in every probe."""

    def __init__(self) -> None:
        self._matrix_MM = torch.full((_REFERENCE_SIDE, _REFERENCE_SIDE), 0.5)
        self._out_MM = torch.empty_like(self._matrix_MM)
        self.seconds()  # the first call prepares kernels

    def seconds(self) -> float:
        """Of one product, fp32, one thread."""
        start = clock.monotonic()
        torch.mm(self._matrix_MM, self._matrix_MM, out=self._out_MM)
        return clock.monotonic() - start


class Triad:
    """Bytes a second of memory, by arrays that no cache holds."""

    def __init__(self, device: torch.device, array_bytes: int) -> None:
        self._device = device
        count = array_bytes // 4
        self._a_N, self._b_N, self._c_N = (
            torch.full((count,), value, device=device) for value in (0.0, 1.0, 2.0)
        )

    def rate(self, seconds: float) -> float:
        """Bytes a second over about so many seconds."""

        def run() -> None:
            torch.add(self._b_N, self._c_N, alpha=3.0, out=self._a_N)

        return 12 * self._a_N.numel() / per_call(run, self._device, seconds)


def array_bytes(device: torch.device, last_cache: int, workers: int, free: int) -> int:
    """Of one of a triad's three arrays: four times the last cache (STREAM's rule), if memory allows.

    All workers together take at most a quarter of ``free`` bytes.
    """
    if device.type != "cpu":
        return min(_ON_ACCELERATOR, free // 12)
    return max(2**20, min(max(_LEAST_ARRAY, 4 * last_cache), free // (12 * workers)))


class HostCopy:
    """Bytes a second from pinned memory of the host to an accelerator."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._from_N = torch.ones(_COPIED // 4).pin_memory()
        self._to_N = torch.empty(_COPIED // 4, device=device)

    def rate(self, seconds: float) -> float:
        """Bytes a second over about so many seconds."""

        def run() -> None:
            self._to_N.copy_(self._from_N, non_blocking=True)

        return _COPIED / per_call(run, self._device, seconds)


def per_call(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Seconds of one call, the mean over about ``seconds`` of them after one that is not counted."""
    run()
    finish(device)
    start = clock.monotonic()
    run()
    finish(device)
    times = max(1, round(seconds / max(clock.monotonic() - start, 1e-7)))
    start = clock.monotonic()
    for _ in range(times):
        run()
    finish(device)
    return (clock.monotonic() - start) / times
