"""Timing what workers say to each other, through the same communicator as training; a line through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from hocket.comms.communicator import Communicator
from hocket.core import clock
from hocket.hardware.matrix_rate import finish
from hocket.hardware.profile import Collective, Figure, Operation, Timing

OPERATIONS: tuple[Operation, ...] = ("all_reduce", "all_gather", "p2p")
_FEWEST, _MOST = 3, 2000


def seconds_per_call(
    ranks: Communicator, operation: Operation, num_bytes: int, device: torch.device, seconds: float
) -> float:
    """Seconds of one call, over about ``seconds``; every rank of ``ranks`` must call.

    ``all_reduce``: float32 numbers of ``num_bytes`` summed. ``all_gather``: each rank brings so many.
    ``p2p``: half of a round trip between ranks 0 and 1, which alone take part.
    """
    call = _call(ranks, operation, num_bytes, device)
    call()  # connections are made
    ranks.barrier()
    # One count for all: the ranks must call equally often.
    start = clock.monotonic()
    call()
    finish(device)
    took = torch.tensor([clock.monotonic() - start], device=device)
    ranks.all_reduce(took).wait()
    mean = max(took.item() / ranks.world_size, 1e-7)
    times = min(_MOST, max(_FEWEST, round(seconds / mean)))
    ranks.barrier()
    start = clock.monotonic()
    for _ in range(times):
        call()
    finish(device)
    each = (clock.monotonic() - start) / times
    return each / 2 if operation == "p2p" else each


def _call(
    ranks: Communicator, operation: Operation, num_bytes: int, device: torch.device
) -> Callable[[], object]:
    sent_N = torch.zeros(max(1, num_bytes // 4), device=device)
    if operation == "all_reduce":
        return lambda: ranks.all_reduce(sent_N).wait()
    if operation == "all_gather":
        all_RN = torch.empty((ranks.world_size, len(sent_N)), device=device)
        return lambda: ranks.all_gather_into(all_RN, sent_N).wait()
    received_N = torch.empty_like(sent_N)
    other = 1 - ranks.rank

    def there_and_back() -> None:
        if ranks.rank == 0:
            ranks.exchange([(other, sent_N)], []).wait()
            ranks.exchange([], [(other, received_N)]).wait()
        elif ranks.rank == 1:
            ranks.exchange([], [(other, received_N)]).wait()
            ranks.exchange([(other, sent_N)], []).wait()

    return there_and_back


def collective(
    operation: Operation, world_size: int, backend: str, timings: Sequence[tuple[int, Figure]]
) -> Collective:
    """A table, and the line ``alpha + beta * bytes`` of least relative errors through its medians."""
    rows = sorted(timings, key=lambda row: row[0])
    alpha, beta = fit([size for size, _ in rows], [seconds.median for _, seconds in rows])
    errors = [abs(alpha + beta * size - seconds.median) / seconds.median for size, seconds in rows]
    table = tuple(Timing(size, seconds) for size, seconds in rows)
    return Collective(operation, world_size, backend, table, alpha, beta, max(errors))


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> tuple[float, float]:
    """``alpha``, ``beta`` >= 0 of least squared relative error of ``alpha + beta * size``.

    Relative, since sizes span five orders: absolute errors would be those of the largest alone.
    """
    size_S, time_S = np.asarray(sizes, np.float64), np.asarray(seconds, np.float64)
    terms_S2 = np.stack([1 / time_S, size_S / time_S], axis=1)
    one_S = np.ones(len(size_S))
    scale_2 = np.linalg.norm(terms_S2, axis=0)
    found = np.linalg.lstsq(terms_S2 / scale_2, one_S, rcond=None)[0] / scale_2
    if found[0] < 0:  # a line through the origin
        found = np.array([0.0, terms_S2[:, 1] @ one_S / (terms_S2[:, 1] @ terms_S2[:, 1])])
    elif found[1] < 0:
        found = np.array([terms_S2[:, 0] @ one_S / (terms_S2[:, 0] @ terms_S2[:, 0]), 0.0])
    return float(found[0]), float(found[1])
