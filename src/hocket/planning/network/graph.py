"""A network as a graph: devices, hosts and switches, joined by links that carry one direction each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from hocket.core.errors import UsageError

NodeKind = Literal["device", "host", "switch"]


@dataclass(frozen=True)
class Node:
    """A place where links meet."""

    name: str
    kind: NodeKind
    tier: int
    """How far up it stands, for pictures: devices 0, hosts 1, leaf switches 2, then 3 and 4."""


@dataclass(frozen=True)
class Link:
    """One direction of a cable, or of several that act as one."""

    source: int
    target: int
    bandwidth: float
    """Bytes a second; above 0."""
    latency: float
    """Seconds; 0 or more."""


@dataclass(frozen=True)
class Graph:
    """Nodes by number, and the links between them; the first ``num_devices`` nodes are the devices."""

    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    num_devices: int
    host_of: tuple[int, ...]
    """The number of each device's host; devices of one host follow each other."""
    island_of: tuple[int, ...]
    """Which devices have fast links among themselves: those of one host, or of one leaf switch."""

    @property
    def num_hosts(self) -> int:
        """Hosts with at least one device."""
        return max(self.host_of) + 1

    def label(self, link: int) -> str:
        """A link's ends by name: ``leaf0 > spine1``."""
        ends = self.links[link]
        return f"{self.nodes[ends.source].name} > {self.nodes[ends.target].name}"

    def with_bandwidth(self, source: str, target: str, bandwidth: float) -> Graph:
        """The same graph with other ``bandwidth`` (bytes/s) on the link between two nodes, by their names.

        Both directions change. Raises :class:`UsageError` where there is no such link.
        """
        ends = {source, target}
        links = tuple(
            replace(link, bandwidth=bandwidth)
            if {self.nodes[link.source].name, self.nodes[link.target].name} == ends
            else link
            for link in self.links
        )
        if links == self.links and not any(self._joins(link, ends) for link in self.links):
            raise UsageError(f"network: no link joins {source} and {target}")
        return replace(self, links=links)

    def _joins(self, link: Link, ends: set[str]) -> bool:
        return {self.nodes[link.source].name, self.nodes[link.target].name} == ends


class Builder:
    """Nodes and cables, added one by one; devices first."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._links: list[Link] = []

    def node(self, name: str, kind: NodeKind, tier: int) -> int:
        """Add a node; its number."""
        self._nodes.append(Node(name, kind, tier))
        return len(self._nodes) - 1

    def cable(self, one: int, other: int, bandwidth: float, latency: float) -> None:
        """Join two nodes: a link in each direction with ``bandwidth`` bytes/s and ``latency`` seconds."""
        self._links.append(Link(one, other, bandwidth, latency))
        self._links.append(Link(other, one, bandwidth, latency))

    def build(self, host_of: Iterable[int], island_of: Iterable[int]) -> Graph:
        """The graph of all that was added."""
        hosts = tuple(host_of)
        return Graph(tuple(self._nodes), tuple(self._links), len(hosts), hosts, tuple(island_of))
