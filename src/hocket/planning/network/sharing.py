"""Who gets how much of a link: max-min fair shares, as TCP's flows have them in the long run.

The rate of all flows grows evenly until a link is full; the flows through it stay there, the others grow on
(progressive filling; Bertsekas & Gallager, *Data Networks*, 6.5.2). When flows end, the others share
anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
_NEAR = 1e-9


@dataclass(frozen=True)
class Pattern:
    """Flows of equal size that start together: how long they take as a straight line over their bytes."""

    corners: tuple[tuple[float, float], ...]
    """Latency in seconds and seconds per byte of the flows that may end last."""
    link_flows_L: I64
    """How many of the flows go over each link."""

    def seconds(self, num_bytes: float) -> float:
        """Until the last flow has arrived, when each carries ``num_bytes``."""
        return max((latency + num_bytes * slope for latency, slope in self.corners), default=0.0)

    @property
    def latency(self) -> float:
        """Of the flow with the most, in seconds."""
        return max((latency for latency, _ in self.corners), default=0.0)

    @property
    def seconds_per_byte(self) -> float:
        """Of the slowest flow, latency apart."""
        return max((slope for _, slope in self.corners), default=0.0)


def share(paths: Sequence[Sequence[int]], bandwidth_L: F64, latency_L: F64) -> Pattern:
    """The pattern of one flow along each path (numbers of links); an empty path takes no time."""
    lengths_F = np.array([len(path) for path in paths], np.int64)
    link_P = np.array([link for path in paths for link in path], np.int64)
    flow_P = np.repeat(np.arange(len(paths)), lengths_F)
    num_links = len(bandwidth_L)
    flows_L = np.bincount(link_P, minlength=num_links)
    if not len(link_P):
        return Pattern((), flows_L)
    slope_F = _ends(flow_P, link_P, len(paths), bandwidth_L)
    total_F: F64 = np.bincount(flow_P, weights=latency_L[link_P], minlength=len(paths)).astype(np.float64)
    return Pattern(_corners(total_F, slope_F), flows_L)


def rates(flow_P: I64, link_P: I64, num_flows: int, bandwidth_L: F64) -> F64:
    """Bytes a second of each flow, all at once. ``(flow, link)`` pairs say who goes where.

    A flow over no link gets an infinite rate.
    """
    rate_F = np.full(num_flows, np.inf)
    left_L = bandwidth_L.astype(np.float64).copy()
    while len(flow_P):
        count_L = np.bincount(link_P, minlength=len(left_L))
        used = np.flatnonzero(count_L)
        share_U = left_L[used] / count_L[used]
        level = float(share_U.min())
        full_L = np.zeros(len(left_L), bool)
        full_L[used[share_U <= level * (1 + _NEAR)]] = True
        stopped_F = np.zeros(num_flows, bool)
        stopped_F[flow_P[full_L[link_P]]] = True
        rate_F[stopped_F] = level
        ends_P = stopped_F[flow_P]
        left_L -= level * np.bincount(link_P[ends_P], minlength=len(left_L))
        flow_P, link_P = flow_P[~ends_P], link_P[~ends_P]
    return rate_F


def _ends(flow_P: I64, link_P: I64, num_flows: int, bandwidth_L: F64) -> F64:
    """When each of the flows has carried one byte, if all start at 0."""
    end_F, left_F = np.zeros(num_flows), np.zeros(num_flows)
    left_F[flow_P] = 1.0
    now = 0.0
    while len(flow_P):
        rate_F = rates(flow_P, link_P, num_flows, bandwidth_L)
        needs_F = np.where(left_F > 0, left_F / rate_F, np.inf)
        spent = float(needs_F.min())
        now += spent
        over_F = (left_F > 0) & (needs_F <= spent * (1 + _NEAR))
        left_F = np.where(left_F > 0, np.maximum(left_F - rate_F * spent, _NEAR * _NEAR), 0.0)
        left_F[over_F] = 0.0
        end_F[over_F] = now
        stay_P = ~over_F[flow_P]
        flow_P, link_P = flow_P[stay_P], link_P[stay_P]
    return end_F


def _corners(latency_F: F64, slope_F: F64) -> tuple[tuple[float, float], ...]:
    """The pairs that no other pair exceeds in both: by falling latency, rising slope."""
    kept: list[tuple[float, float]] = []
    for index in np.lexsort((-slope_F, -latency_F)).tolist():
        pair = float(latency_F[index]), float(slope_F[index])
        if not kept or pair[1] > kept[-1][1]:
            kept.append(pair)
    return tuple(kept)
