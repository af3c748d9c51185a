"""Seconds of a collective on a network, and which links it loads."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hocket.core.errors import UsageError
from hocket.planning.network import algorithms as by
from hocket.planning.network import gloo
from hocket.planning.network.algorithms import Pipelined
from hocket.planning.network.graph import Graph
from hocket.planning.network.rounds import I64, Round, as_groups
from hocket.planning.network.routing import Network

T = TypeVar("T")

TCP_WIRE = 1514 / 1448
"""Bytes of Ethernet frames for a byte of payload: TCP with time stamps over IPv4, frames of 1500 bytes."""

Plan = Callable[[I64, float, Graph], "list[Round] | Pipelined | None"]
"""What a collective of so many bytes does in groups ``group_GN``; None where it can't be had that way."""

TABLE: Mapping[str, Mapping[str, Plan]] = {
    "all_reduce": {
        "ring": by.ring_all_reduce,
        "halving_doubling": by.halving_doubling_all_reduce,
        "recursive_doubling": by.doubling_all_reduce,
        "binomial": by.binomial_all_reduce,
        "double_tree": partial(by.double_tree, both_ways=True),
        "hierarchical": by.hierarchical_all_reduce,
        "gloo": gloo.all_reduce,
    },
    "all_gather": {
        "ring": by.ring_all_gather,
        "recursive_doubling": by.doubling_all_gather,
        "hierarchical": by.hierarchical_all_gather,
        "gloo": gloo.all_gather,
    },
    "reduce_scatter": {
        "ring": by.ring_reduce_scatter,
        "recursive_halving": by.halving_reduce_scatter,
        "hierarchical": by.hierarchical_reduce_scatter,
        "gloo": gloo.all_reduce,
    },
    "broadcast": {
        "binomial": by.binomial_broadcast,
        "scatter_gather": by.scatter_gather_broadcast,
        "double_tree": partial(by.double_tree, both_ways=False),
        "gloo": gloo.broadcast,
    },
    "all_to_all": {"pairwise": by.pairwise, "gloo": gloo.all_to_all},
    "to_next": {"direct": by.one_to_next, "gloo": by.one_to_next},
    "shift": {"direct": by.shift, "gloo": by.shift},
}
"""Collectives, and their algorithms by name."""

LIBRARIES = frozenset({"gloo"})
"""Algorithms that are what a library does, not one to choose."""


@dataclass(frozen=True)
class Transport:
    """What sending costs besides the network: the software at both ends."""

    name: str = "ideal"
    start_seconds: float = 0.0
    """Once for each collective."""
    message_seconds: float = 0.0
    """For each message that a rank sends and the one that it receives meanwhile."""
    reduce_bytes_per_second: float = inf
    """How fast what came is added to what was there."""
    wire_bytes_per_byte: float = 1.0
    """Headers: bytes on the link for a byte of a tensor."""

    def __post_init__(self) -> None:
        for name in ("start_seconds", "message_seconds"):
            if getattr(self, name) < 0:
                raise UsageError(f"transport {self.name}: {name} is {getattr(self, name):g}, below 0")
        if self.reduce_bytes_per_second <= 0 or self.wire_bytes_per_byte < 1:
            raise UsageError(
                f"transport {self.name}: adding up {self.reduce_bytes_per_second:g} bytes/s, "
                f"{self.wire_bytes_per_byte:g} bytes on the wire for each",
                "The first is above 0, the second at least 1.",
            )


IDEAL = Transport()
"""Software without cost."""


@dataclass(frozen=True)
class Cost:
    """What a collective takes, when all groups run it at the same time."""

    collective: str
    algorithm: str
    num_bytes: float
    seconds: float
    """From when all have come to when the last is done."""
    fixed_seconds: float
    """What an empty tensor would take: latencies and messages."""
    link_bytes_L: npt.NDArray[np.float64] = field(repr=False)
    """Bytes that each link carries, headers included."""

    def busiest(self, network: Network) -> int:
        """The link that is busy longest, by number."""
        bandwidth_L = np.array([link.bandwidth for link in network.links])
        return int(np.argmax(self.link_bytes_L / bandwidth_L))


def cost(
    network: Network,
    groups: Sequence[Sequence[int]],
    collective: str,
    num_bytes: float,
    algorithm: str,
    transport: Transport = IDEAL,
) -> Cost:
    """Cost of a collective of ``num_bytes`` in each of ``groups`` (devices in the order of their ranks).

    ``num_bytes`` is the whole tensor: what all have after an all-gather, what each had before a
    reduce-scatter; all that a rank hands in for an all-to-all; one message of ``to_next`` and ``shift``.
    Rounds follow each other: the slowest link of a round decides it. Raises :class:`UsageError` for names
    that nobody knows, sizes below 0, groups that overlap, and an algorithm that cannot be had there.
    """
    found = _cost(network, as_groups(groups), collective, num_bytes, algorithm, transport)
    if found is None:
        raise UsageError(
            f"network {network.name}: no {algorithm} {collective} of these groups: "
            "they are not several equal islands of two devices and more"
        )
    return found


def best(
    network: Network,
    groups: Sequence[Sequence[int]],
    collective: str,
    num_bytes: float,
    transport: Transport = IDEAL,
    algorithms: Sequence[str] = (),
) -> Cost:
    """The fastest of ``algorithms``; without a word of all that one may choose from.

    Raises like :func:`cost`.
    """
    known = _known(collective, TABLE, "collective")
    names = algorithms or [name for name in known if name not in LIBRARIES]
    group_GN = as_groups(groups)
    tried = [_cost(network, group_GN, collective, num_bytes, name, transport) for name in names]
    had = [each for each in tried if each is not None]
    if not had:
        raise UsageError(f"network {network.name}: no {' or '.join(names)} {collective} of these groups")
    return min(had, key=lambda each: each.seconds)


def _cost(
    network: Network, group_GN: I64, collective: str, num_bytes: float, algorithm: str, transport: Transport
) -> Cost | None:
    plan = _known(algorithm, _known(collective, TABLE, "collective"), f"algorithm for {collective}")
    if not 0 <= num_bytes < inf:
        raise UsageError(f"network: a {collective} of {num_bytes:g} bytes; sizes start at 0 and end")
    if group_GN.min() < 0 or group_GN.max() >= network.num_devices:
        raise UsageError(
            f"network {network.name}: devices {group_GN.min()} to {group_GN.max()} in groups; "
            f"there are 0 to {network.num_devices - 1}"
        )
    carried_L = np.zeros(len(network.links))
    seconds = fixed = 0.0
    if group_GN.shape[1] > 1:
        work = plan(group_GN, num_bytes, network.graph)
        if work is None:
            return None
        seconds = fixed = transport.start_seconds
        for each, pieces, behind in _steps(network, work, transport):
            carried = each.times * pieces * each.num_bytes * transport.wire_bytes_per_byte
            carried_L += carried * network.pattern(each.source_F, each.target_F).link_flows_L
            seconds += _seconds(network, each, transport, pieces + behind)
            empty = Round(each.source_F, each.target_F, 0.0, each.times, each.window)
            fixed += _seconds(network, empty, transport, 1 + behind)
    return Cost(collective, algorithm, num_bytes, seconds, fixed, carried_L)


def _steps(
    network: Network, work: list[Round] | Pipelined, transport: Transport
) -> list[tuple[Round, int, int]]:
    """Rounds, into how many pieces each is cut, and by how many rounds the first piece is behind."""
    if not isinstance(work, Pipelined):
        return [(each, 1, 0) for each in work]
    step = work.step
    pattern = network.pattern(step.source_F, step.target_F)
    slope = pattern.seconds_per_byte * transport.wire_bytes_per_byte + 1 / transport.reduce_bytes_per_second
    pieces = work.pieces(pattern.latency + transport.message_seconds, step.num_bytes * slope)
    piece, reduced = step.num_bytes / pieces, step.reduce_bytes / pieces
    return [(Round(step.source_F, step.target_F, piece, reduce_bytes=reduced), pieces, work.depth - 1)]


def _seconds(network: Network, each: Round, transport: Transport, repeats: int) -> float:
    """Of a round as often as it is run."""
    pattern = network.pattern(each.source_F, each.target_F)
    on_wire = each.num_bytes * transport.wire_bytes_per_byte
    software = transport.message_seconds + each.reduce_bytes / transport.reduce_bytes_per_second
    alone = pattern.seconds(on_wire) + software
    times = each.times * repeats
    if each.window == 1:
        return times * alone
    busy = max(on_wire * pattern.seconds_per_byte, software)  # what holds up the next transfer
    last = min(busy, alone - busy)  # what is left of the last when the others are done
    return times * max(busy, alone / each.window) + min(1.0, times) * last


def _known(name: str, table: Mapping[str, T], what: str) -> T:
    if name not in table:
        near = difflib.get_close_matches(name, table, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(table)}."
        raise UsageError(f"network: there is no {what} {name!r}", hint)
    return table[name]
