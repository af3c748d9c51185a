"""Networks as graphs, what collectives cost on them, and where ranks are best placed.

``parse(TEXT).build()`` makes a :class:`Network`; ``cost`` and ``best`` give the seconds of a collective among
groups of its devices; ``place`` lays a layout's ranks onto it. All are pure functions of plain data.
"""

from hocket.planning.network.cost import IDEAL, LIBRARIES, TABLE, TCP_WIRE, Cost, Transport, best, cost
from hocket.planning.network.graph import Graph, Link, Node
from hocket.planning.network.placement import Placement, Traffic, place
from hocket.planning.network.routing import Network
from hocket.planning.network.spec import EXAMPLES, KINDS, Spec, parse
from hocket.planning.network.topologies import (
    Dragonfly,
    Hosts,
    Tree,
    dragonfly,
    fat_tree,
    ring,
    switch,
    torus,
)

__all__ = [
    "EXAMPLES",
    "IDEAL",
    "KINDS",
    "LIBRARIES",
    "TABLE",
    "TCP_WIRE",
    "Cost",
    "Dragonfly",
    "Graph",
    "Hosts",
    "Link",
    "Network",
    "Node",
    "Placement",
    "Spec",
    "Traffic",
    "Transport",
    "Tree",
    "best",
    "cost",
    "dragonfly",
    "fat_tree",
    "parse",
    "place",
    "ring",
    "switch",
    "torus",
]
