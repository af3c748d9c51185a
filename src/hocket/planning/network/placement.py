"""Which device each rank of a layout gets: the order of the mesh's axes that makes its collectives fastest.

Devices are numbered host by host, so the axis that runs fastest has its ranks nearest to each other. Every
order of the axes that are split is tried; the ranks themselves keep their numbers
(:data:`~hocket.core.layout.AXES`, the last fastest).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from math import prod

import numpy as np

from hocket.core.errors import UsageError
from hocket.core.layout import AXES, Layout
from hocket.planning.network.cost import IDEAL, Cost, Transport, best
from hocket.planning.network.rounds import I64
from hocket.planning.network.routing import Network

_TOLD = 3
"""Collectives that the words of a placement name: those that take longest."""


@dataclass(frozen=True)
class Traffic:
    """A collective that a step runs along some axes of the mesh."""

    axes: tuple[str, ...]
    """Ranks that differ in these axes alone are a group; all groups run it at the same time."""
    collective: str
    """A name of :data:`~hocket.planning.network.cost.TABLE`."""
    num_bytes: float
    """Of each, as :func:`~hocket.planning.network.cost.cost` counts them."""
    times: float = 1.0
    """A step."""
    algorithms: tuple[str, ...] = ()
    """Those to choose from; empty for all."""

    def __str__(self) -> str:
        return f"{self.collective} over {'+'.join(self.axes)}"


@dataclass(frozen=True)
class Placement:
    """Ranks on devices, and what a step's collectives then take."""

    order: tuple[str, ...]
    """Axes that are split, from the one whose ranks are furthest apart to the nearest."""
    device_of: tuple[int, ...]
    """The device of each rank."""
    costs: tuple[Cost, ...]
    """Of one run of each traffic, in the order they were given."""
    seconds: float
    """Of all of a step, one after the other."""
    tried: tuple[tuple[tuple[str, ...], float], ...]
    """Every order that was tried and its seconds, the fastest first."""
    why: str
    """In words."""


def place(
    network: Network, layout: Layout, traffic: Sequence[Traffic], transport: Transport = IDEAL
) -> Placement:
    """The placement of ``layout`` with the fastest ``traffic``; that of the mesh itself where orders tie.

    Raises :class:`UsageError` for a layout larger than the network, and for axes that nobody knows.
    """
    if layout.world_size > network.num_devices:
        raise UsageError(
            f"network {network.name}: {layout.world_size} ranks on {network.num_devices} devices",
            "Give more hosts or smaller degrees.",
        )
    for unknown in {axis for each in traffic for axis in each.axes} - set(AXES):
        raise UsageError(f"network: there is no axis {unknown!r}", f"Known: {', '.join(AXES)}.")
    split = [axis for axis in AXES if getattr(layout, axis) > 1]
    device_of = {order: _devices(layout, order) for order in permutations(split)}
    costs = {
        order: _costs(network, layout, devices, traffic, transport) for order, devices in device_of.items()
    }
    seconds = {
        order: sum(each.seconds * one.times for each, one in zip(found, traffic, strict=True))
        for order, found in costs.items()
    }
    usual = tuple(split)
    chosen = min(seconds, key=lambda order: (seconds[order], order != usual))
    if seconds[usual] <= seconds[chosen] * (1 + 1e-9):
        chosen = usual
    tried = tuple(sorted(seconds.items(), key=lambda pair: pair[1]))
    why = _why(network, traffic, chosen, costs[chosen], seconds)
    return Placement(
        chosen, tuple(device_of[chosen].tolist()), tuple(costs[chosen]), seconds[chosen], tried, why
    )


def groups_of(layout: Layout, axes: Sequence[str], device_of: Sequence[int] | None = None) -> list[list[int]]:
    """Ranks that differ in ``axes`` only, together; as devices where ``device_of`` says which."""
    ranks = np.arange(layout.world_size).reshape(layout.degrees)
    moved = [number for number, axis in enumerate(AXES) if axis in axes]
    kept = [number for number in range(len(AXES)) if number not in moved]
    size = prod(layout.degrees[number] for number in moved)
    group_GN = ranks.transpose(*kept, *moved).reshape(-1, size)
    rows: list[list[int]] = (group_GN if device_of is None else np.asarray(device_of)[group_GN]).tolist()
    return rows


def _devices(layout: Layout, order: tuple[str, ...]) -> I64:
    """The device of each rank when axes run in this order, the last fastest."""
    stride, device_R = 1, np.zeros(layout.world_size, np.int64)
    place_AR = np.unravel_index(np.arange(layout.world_size), layout.degrees)
    for axis in reversed(order):
        number = AXES.index(axis)
        device_R += place_AR[number] * stride
        stride *= layout.degrees[number]
    return device_R


def _costs(
    network: Network, layout: Layout, device_of: I64, traffic: Sequence[Traffic], transport: Transport
) -> list[Cost]:
    return [
        best(
            network,
            groups_of(layout, each.axes, device_of.tolist()),
            each.collective,
            each.num_bytes,
            transport,
            each.algorithms,
        )
        for each in traffic
    ]


def _why(
    network: Network,
    traffic: Sequence[Traffic],
    chosen: tuple[str, ...],
    costs: Sequence[Cost],
    seconds: dict[tuple[str, ...], float],
) -> str:
    if not chosen:
        return "nothing is split"
    said = [
        f"ranks along {chosen[-1]} sit next to each other"
        + (f", ranks along {chosen[0]} furthest apart" if len(chosen) > 1 else "")
    ]
    longest = sorted(
        zip(costs, traffic, strict=True), key=lambda pair: pair[0].seconds * pair[1].times, reverse=True
    )
    for each, one in longest[:_TOLD]:
        if each.seconds:
            busiest = network.graph.label(each.busiest(network))
            took = each.seconds * one.times * 1e3
            said.append(f"{one} ({each.algorithm}) takes {took:.3g} ms a step, most of it on {busiest}")
    worst = max(seconds, key=lambda order: seconds[order])
    if seconds[worst] > seconds[chosen] * 1.001:
        times = seconds[worst] / seconds[chosen]
        said.append(
            f"with {worst[-1]} next to each other and {worst[0]} furthest apart all sending would take "
            f"{times:.2g} times that"
        )
    elif len(chosen) > 1:
        said.append("no other order is slower")
    return "; ".join(said)
