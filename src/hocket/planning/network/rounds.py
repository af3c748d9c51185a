"""What a collective is made of: rounds, in each of which pairs of devices send equally much at once.

Shape suffixes: G groups that work at the same time, N members of each, F flows of a round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.core.errors import UsageError

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Round:
    """Transfers that start together, so often one after the other."""

    source_F: I64
    target_F: I64
    num_bytes: float
    """Of each transfer."""
    times: float = 1.0
    window: int = 1
    """Transfers that a device may have under way: while one travels, the next is prepared."""
    reduce_bytes: float = 0.0
    """Bytes that a device adds up when they have come."""


def as_groups(groups: Sequence[Sequence[int]]) -> I64:
    """Groups of devices as a table ``group_GN``.

    Raises :class:`UsageError` if they overlap or differ in size.
    """
    sizes = {len(group) for group in groups}
    if len(sizes) != 1 or 0 in sizes:
        raise UsageError(f"network: groups of one collective must be equally large, not {sorted(sizes)}")
    group_GN = np.array(groups, np.int64)
    if len(np.unique(group_GN)) != group_GN.size:
        raise UsageError("network: a device is in a group twice, or in two groups of one collective")
    return group_GN


def pairs(
    source_GN: I64,
    target_GN: I64,
    num_bytes: float,
    times: float = 1.0,
    window: int = 1,
    reduce_bytes: float = 0.0,
) -> list[Round]:
    """A round from each source to the target at the same place; none where there is nothing to send."""
    if not source_GN.size or times <= 0:
        return []
    source_F, target_F = (np.ascontiguousarray(side.ravel()) for side in (source_GN, target_GN))
    return [Round(source_F, target_F, num_bytes, times, window, reduce_bytes)]


def around(
    group_GN: I64,
    step: int,
    num_bytes: float,
    times: float = 1.0,
    window: int = 1,
    reduce_bytes: float = 0.0,
) -> list[Round]:
    """Every member sends to the one ``step`` places on, ends to ends."""
    if group_GN.shape[1] == 1:
        return []
    return pairs(group_GN, np.roll(group_GN, -step, axis=1), num_bytes, times, window, reduce_bytes)


def across(group_GN: I64, distance: int, num_bytes: float, reduce_bytes: float = 0.0) -> list[Round]:
    """Members whose numbers differ by ``distance`` (a power of two) in that bit alone send to each other."""
    other_GN = group_GN[:, np.arange(group_GN.shape[1]) ^ distance]
    return pairs(group_GN, other_GN, num_bytes, reduce_bytes=reduce_bytes)
