"""A small piece of work that is timed beside everything else, so that a busy moment of the machine shows."""

from __future__ import annotations

from collections.abc import Callable

import torch

from hocket.core import clock

_SIDE, _VALUES, _TIMES = 384, 2**19, 6


class Reference:
    """Some products of matrices that fit the caches, and passes over values that hardly do.

    About ten milliseconds of one core. What is timed between two calls is divided by their mean. On a
    processor with one thread the time is that which the thread computed, so that programs which take the
    core in between do not count; what they do to caches and memory shows in the reference as well.
    """

    def __init__(self, device: torch.device, *, wall: bool = False) -> None:
        """``wall`` takes the time that passes all the same: for work that waits for other processes."""
        self._device = device
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        self._clock = clock.busy if alone and not wall else clock.monotonic
        self._left = torch.full((_SIDE, _SIDE), 0.5, device=device)
        self._out = torch.empty_like(self._left)
        self._values = torch.full((_VALUES,), 0.5, device=device)
        self._passed = torch.empty_like(self._values)
        self()  # the first call prepares kernels
        self.least = self()

    def __call__(self) -> float:
        """Seconds of it, now."""
        start = self.now()
        for _ in range(_TIMES):
            torch.mm(self._left, self._left, out=self._out)
            torch.mul(self._values, 0.999, out=self._passed)
            torch.add(self._values, self._passed, out=self._passed)
        return self.now() - start

    def now(self) -> float:
        """The time when the device has done what it was given, in seconds from an arbitrary start."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self._clock()

    def beside(self, work: Callable[[], tuple[float, ...]]) -> tuple[float, ...]:
        """Seconds that ``work`` says it took, each over those of this beside it."""
        before = self()
        taken = work()
        after = self()
        self.least = min(self.least, before, after)
        return tuple(2 * each / (before + after) for each in taken)
