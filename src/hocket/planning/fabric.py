"""What it costs to send: the question that a prediction asks of a network, and the plainest answer to it.

:class:`AlphaBeta` knows two kinds of links, within a host and between hosts, each with a latency and a
bandwidth (Hockney, 1994), and collectives in a ring (Patarasuk & Yuan, 2009). Networks with a topology are
those of :mod:`hocket.planning.network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

Operation = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p"]

Group = Sequence[int]
"""Ranks that take part in a collective, in their order."""


class Fabric(Protocol):
    """Seconds of collectives."""

    @property
    def name(self) -> str:
        """As a plan calls it."""
        ...

    def seconds(self, operation: Operation, groups: Sequence[Group], num_bytes: float) -> float:
        """Until the last of ``groups``, which all run the same at the same time, is through.

        ``num_bytes`` are those of the tensor that is summed (``all_reduce``, ``reduce_scatter``), that each
        rank brings (``all_gather``), that each rank sends to all others together (``all_to_all``), or of one
        message from each rank of a group to its next (``p2p``).
        """
        ...


@dataclass(frozen=True)
class Line:
    """A way between two devices: ``latency`` seconds, then ``bandwidth`` bytes a second."""

    latency: float
    bandwidth: float

    def seconds(self, num_bytes: float) -> float:
        """Of one message."""
        return self.latency + num_bytes / self.bandwidth


class Table(Protocol):
    """What was measured of an operation among workers of one host."""

    def seconds(self, num_bytes: float) -> float:
        """Of one call with so many bytes."""
        ...


@dataclass(frozen=True)
class AlphaBeta:
    """Hosts of ``per_host`` devices. All devices of a host share its way out.

    ``measured`` are tables of what operations took among workers of one host, by operation and number of
    workers; where there is one it is used instead of ``inside``.
    """

    name: str
    per_host: int
    inside: Line
    between: Line
    measured: Mapping[tuple[Operation, int], Table] = field(default_factory=dict)

    def seconds(self, operation: Operation, groups: Sequence[Group], num_bytes: float) -> float:
        """See :class:`Fabric`: rings, and for ``all_to_all`` everybody with everybody in turn."""
        group = groups[0]
        size = len(group)
        if size < 2 or num_bytes <= 0:
            return 0.0
        hosts = {rank // self.per_host for rank in group}
        if len(hosts) == 1:
            table = self.measured.get((operation, 2 if operation == "p2p" else size))
            if table is not None:
                return table.seconds(num_bytes)
            line = self.inside
        else:
            line = Line(self.between.latency, self.between.bandwidth / self._sharing(groups))
        if operation == "p2p":
            return line.seconds(num_bytes)
        rounds, part = _ring(operation, size, num_bytes)
        return rounds * line.seconds(part)

    def _sharing(self, groups: Sequence[Group]) -> int:
        """How many of the groups go out of the fullest host at the same time."""
        leaving: dict[int, int] = {}
        for group in groups:
            hosts = {rank // self.per_host for rank in group}
            for host in hosts if len(hosts) > 1 else ():
                leaving[host] = leaving.get(host, 0) + 1
        return max(leaving.values(), default=1)


def _ring(operation: Operation, size: int, num_bytes: float) -> tuple[int, float]:
    """(rounds, bytes that each rank passes on in a round)."""
    if operation == "all_reduce":
        return 2 * (size - 1), num_bytes / size
    if operation == "reduce_scatter":
        return size - 1, num_bytes / size
    if operation == "all_gather":
        return size - 1, num_bytes
    return size - 1, num_bytes / (size - 1)


@dataclass(frozen=True)
class Placed:
    """A fabric whose devices the ranks have in another order than their own."""

    fabric: Fabric
    device_of: Sequence[int]
    """The device of each rank."""

    @property
    def name(self) -> str:
        """Of the fabric."""
        return self.fabric.name

    def seconds(self, operation: Operation, groups: Sequence[Group], num_bytes: float) -> float:
        """See :class:`Fabric`."""
        moved = [[self.device_of[rank] for rank in group] for group in groups]
        return self.fabric.seconds(operation, moved, num_bytes)


@dataclass(frozen=True)
class NoNetwork:
    """Sending costs nothing: for limits, and for one worker alone."""

    name: str = "none"

    def seconds(self, operation: Operation, groups: Sequence[Group], num_bytes: float) -> float:
        """Nothing."""
        return 0.0
