"""The collectives that torch runs over TCP with gloo: rings in segments, two of which are under way.

As in gloo's ``allreduce.cc``, ``allgather.cc`` and ``broadcast.cc`` and torch's ``ProcessGroupGloo.cpp``: an
all-reduce cuts the tensor into a multiple of N segments, of a megabyte at most and at least two for each
rank; both of its phases send all segments but two, also those that are on their way home. A reduce-scatter is
an all-reduce of which a part is kept.
"""

from __future__ import annotations

from math import ceil

from hocket.planning.network.algorithms import binomial_broadcast, pairwise
from hocket.planning.network.graph import Graph
from hocket.planning.network.rounds import I64, Round, around

LARGEST_SEGMENT = 1 << 20
_ELEMENT = 4
_UNDER_WAY = 2


def all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Two phases round the ring, towards lower ranks."""
    members = group_GN.shape[1]
    if members == 1 or num_bytes <= 0:
        return []
    least = ceil(ceil(num_bytes / (2 * members)) / _ELEMENT) * _ELEMENT
    segment = min(least, LARGEST_SEGMENT)
    segments = ceil(max(ceil(num_bytes / segment), 2 * members) / members) * members
    filled = min(1.0, num_bytes / (segments * segment))
    times, idle = (segments - 2) * filled, (members - 1) * (1 - filled)
    return [  # segments past the end are not sent, but the others still have all the way to go
        *around(group_GN, -1, segment, times, window=_UNDER_WAY, reduce_bytes=segment),
        *around(group_GN, -1, segment, idle, reduce_bytes=segment),
        *around(group_GN, -1, segment, times, window=_UNDER_WAY),
        *around(group_GN, -1, segment, idle),
    ]


def all_gather(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Every member's part goes round the ring in two halves."""
    members = group_GN.shape[1]
    half = num_bytes / members / 2
    return around(group_GN, 1, half, 2 * (members - 1), window=_UNDER_WAY)


def broadcast(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """A binomial tree of whole tensors."""
    return binomial_broadcast(group_GN, num_bytes, graph)


def all_to_all(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """All parts are sent at once: as a pairwise exchange that waits for no latency between its rounds."""
    window = max(1, group_GN.shape[1] - 1)
    rounds = pairwise(group_GN, num_bytes, graph)
    return [Round(r.source_F, r.target_F, r.num_bytes, window=window) for r in rounds]
