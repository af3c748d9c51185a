"""Which links a message takes: shortest paths, spread where there are several.

- *Dimension order* on a ring or torus: along the last axis first, then the one before, each the shorter
  way round (Dally & Seitz, 1987).
- Elsewhere a shortest path. Where several switches are as near, ``destination`` chooses by the
  target's number, as InfiniBand's subnet managers do on fat-trees (D-mod-k; Zahavi et al., 2010), and
  ``hash`` by a keyed mix of both ends, as Ethernet's ECMP does (RFC 2992): flows may then collide.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from hocket.core import seeds
from hocket.core.errors import UsageError
from hocket.planning.network.graph import Graph, Link
from hocket.planning.network.sharing import Pattern, share

Spread = Literal["destination", "hash"]
I64 = npt.NDArray[np.int64]


class Network:
    """A graph, and the way messages take through it.

    ``shape`` is the degrees of a ring's or torus's axes, whose host ``i`` is the node at ``hosts[i]``; it is
    empty for other topologies. Routes and the loads of whole rounds are kept once found.
    """

    def __init__(
        self,
        name: str,
        graph: Graph,
        spread: Spread = "destination",
        shape: Sequence[int] = (),
        hosts: Sequence[int] = (),
    ) -> None:
        self.name, self.graph, self.spread = name, graph, spread
        self._shape, self._hosts = tuple(shape), tuple(hosts)
        self._paths: dict[tuple[int, int], tuple[int, ...]] = {}
        self._patterns: dict[tuple[bytes, bytes], Pattern] = {}
        self._distances: dict[int, npt.NDArray[np.float64]] = {}

    @property
    def num_devices(self) -> int:
        """Devices, numbered from 0, host by host."""
        return self.graph.num_devices

    @property
    def links(self) -> tuple[Link, ...]:
        """All links, by number."""
        return self.graph.links

    def with_graph(self, graph: Graph) -> Network:
        """The same routes over a graph with other bandwidths or latencies."""
        return Network(self.name, graph, self.spread, self._shape, self._hosts)

    def slowed(self, source: str, target: str, bandwidth: float) -> Network:
        """This network with other ``bandwidth`` (bytes/s) on the cable between two nodes, by name."""
        return self.with_graph(self.graph.with_bandwidth(source, target, bandwidth))

    def path(self, source: int, target: int) -> tuple[int, ...]:
        """Numbers of the links from one device to another; none from a device to itself.

        Raises :class:`UsageError` where no way leads there.
        """
        found = self._paths.get((source, target))
        if found is None:
            found = self._torus(source, target) if self._shape else self._shortest(source, target)
            self._paths[source, target] = found
        return found

    def pattern(self, source_F: I64, target_F: I64) -> Pattern:
        """What it takes when all these pairs of devices send as much to each other at the same time."""
        key = source_F.tobytes(), target_F.tobytes()
        found = self._patterns.get(key)
        if found is None:
            paths = [self.path(s, t) for s, t in zip(source_F.tolist(), target_F.tolist(), strict=True)]
            found = self._patterns[key] = share(paths, self._bandwidths, self._latencies)
        return found

    @cached_property
    def _bandwidths(self) -> npt.NDArray[np.float64]:
        return np.array([link.bandwidth for link in self.links])

    @cached_property
    def _latencies(self) -> npt.NDArray[np.float64]:
        return np.array([link.latency for link in self.links])

    @cached_property
    def _leaving(self) -> list[list[int]]:
        """Links that leave each node."""
        leaving: list[list[int]] = [[] for _ in self.graph.nodes]
        for number, link in enumerate(self.links):
            leaving[link.source].append(number)
        return leaving

    @cached_property
    def _between(self) -> dict[tuple[int, int], int]:
        return {(link.source, link.target): number for number, link in enumerate(self.links)}

    @cached_property
    def _reversed(self) -> csr_array:
        ends = [(link.target, link.source) for link in self.links]
        rows, columns = zip(*ends, strict=True) if ends else ((), ())
        size = len(self.graph.nodes)
        return csr_array((np.ones(len(ends)), (rows, columns)), shape=(size, size))

    def _hops_to(self, node: int) -> npt.NDArray[np.float64]:
        """Links from each node to this one."""
        if node not in self._distances:
            self._distances[node] = dijkstra(self._reversed, indices=node, unweighted=True)
        return self._distances[node]

    def _shortest(self, source: int, target: int) -> tuple[int, ...]:
        if source == target:
            return ()
        # A device with one cable is reached through what it hangs on: one search for all that hang there.
        last = self._leaving[target]
        via = self.links[last[0]].target if len(last) == 1 else target
        hops_V = self._hops_to(via)
        node, taken, number = source, [], target
        if not np.isfinite(hops_V[source]):
            names = [self.graph.nodes[end].name for end in (source, target)]
            raise UsageError(f"network {self.name}: no way from {names[0]} to {names[1]}")
        while node != via:
            ways = [way for way in self._leaving[node] if hops_V[self.links[way].target] == hops_V[node] - 1]
            chosen = ways[0]
            if len(ways) > 1:
                if self.spread == "destination":
                    number, place = divmod(number, len(ways))
                else:
                    place = seeds.key("ecmp", source, target, node) % len(ways)
                chosen = ways[place]
            taken.append(chosen)
            node = self.links[chosen].target
        if via != target:
            taken.append(self._between[via, target])
        return tuple(taken)

    def _torus(self, source: int, target: int) -> tuple[int, ...]:
        hosts = self.graph.host_of[source], self.graph.host_of[target]
        if source == target:
            return ()
        at, goal = (list(map(int, np.unravel_index(host, self._shape))) for host in hosts)
        nodes = [self._hosts[hosts[0]]]
        for axis in reversed(range(len(self._shape))):
            degree = self._shape[axis]
            ahead = (goal[axis] - at[axis]) % degree
            step = 1 if ahead <= degree // 2 else -1
            while at[axis] != goal[axis]:
                at[axis] = (at[axis] + step) % degree
                nodes.append(self._hosts[int(np.ravel_multi_index(at, self._shape))])
        if nodes[0] != source:
            nodes = [source, *nodes, target]
        return tuple(self._between[pair] for pair in pairwise(nodes))
