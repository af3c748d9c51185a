"""A network with a topology as what a prediction asks for: seconds of collectives, with their contention."""

from __future__ import annotations

from collections.abc import Sequence

from hocket.planning.fabric import Group, Operation
from hocket.planning.network.cost import IDEAL, Transport, best
from hocket.planning.network.routing import Network

_NAMES: dict[Operation, str] = {"p2p": "to_next"}


class OnNetwork:
    """See :class:`~hocket.planning.fabric.Fabric`: the fastest algorithm for each collective."""

    def __init__(self, network: Network, transport: Transport = IDEAL) -> None:
        self.network, self.name = network, network.name
        self._transport = transport
        self._known: dict[tuple[object, ...], float] = {}

    def seconds(self, operation: Operation, groups: Sequence[Group], num_bytes: float) -> float:
        """See :class:`~hocket.planning.fabric.Fabric`."""
        size = len(groups[0])
        if size < 2 or num_bytes <= 0:
            return 0.0
        name, whole = whole_bytes(operation, size, num_bytes)
        key = (name, tuple(map(tuple, groups)), whole)
        if key not in self._known:
            self._known[key] = best(self.network, groups, name, whole, self._transport).seconds
        return self._known[key]


def whole_bytes(operation: Operation, size: int, num_bytes: float) -> tuple[str, float]:
    """An operation's name among the network's collectives, and the bytes that these count for it."""
    factors = {"all_gather": float(size), "all_to_all": size / (size - 1)}
    return _NAMES.get(operation, operation), num_bytes * factors.get(operation, 1.0)
