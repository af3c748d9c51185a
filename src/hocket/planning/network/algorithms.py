"""Collectives as rounds of transfers: ring, doubling and halving, trees, hierarchical.

Sources: Thakur, Rabenseifner & Gropp, *Optimization of collective communication operations in MPICH* (2005);
Bruck et al. (1997); Sanders, Speck & Träff, *Two-tree algorithms* (2009). In all of them ``num_bytes`` is
the whole tensor: what all have after an all-gather, what each had before a reduce-scatter. Shapes: G
groups that work at the same time, N members of each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2, sqrt

import numpy as np
import numpy.typing as npt

from hocket.planning.network.graph import Graph
from hocket.planning.network.rounds import I64, Round, across, around, pairs


@dataclass(frozen=True)
class Pipelined:
    """The same round over and over, for pieces of a message that follow each other."""

    step: Round
    """With the bytes of the whole message on each of its edges."""
    depth: int
    """Rounds until the first piece has arrived."""

    def pieces(self, latency: float, seconds: float) -> int:
        """How many make it fastest, when the whole message takes ``seconds`` on one edge, latency apart."""
        if latency <= 0:
            return 1 << 16
        return max(1, min(1 << 16, round(sqrt((self.depth - 1) * seconds / latency))))


def ring_reduce_scatter(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """N-1 rounds; every member passes an N-th on, added to its own."""
    members = group_GN.shape[1]
    return around(group_GN, 1, num_bytes / members, members - 1, reduce_bytes=num_bytes / members)


def ring_all_gather(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """N-1 rounds; every member passes on what came last."""
    members = group_GN.shape[1]
    return around(group_GN, 1, num_bytes / members, members - 1)


def ring_all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Reduce-scatter, then all-gather, on a ring: the fewest bytes, the most rounds."""
    return [*ring_reduce_scatter(group_GN, num_bytes, graph), *ring_all_gather(group_GN, num_bytes, graph)]


def _folded(group_GN: I64, num_bytes: float, back: float, inner: Callable[[I64], list[Round]]) -> list[Round]:
    """Where N is no power of two: the odd of the first few hand theirs to a neighbour and get the result."""
    members = group_GN.shape[1]
    power = 1 << (members.bit_length() - 1)
    extra = members - power
    if not extra:
        return inner(group_GN)
    away_GE, kept_GE = group_GN[:, 0 : 2 * extra : 2], group_GN[:, 1 : 2 * extra : 2]
    rest_GP = np.concatenate([kept_GE, group_GN[:, 2 * extra :]], axis=1)
    return [
        *pairs(away_GE, kept_GE, num_bytes, reduce_bytes=num_bytes),
        *inner(rest_GP),
        *pairs(kept_GE, away_GE, back),
    ]


def doubling_all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """log2 N rounds in which the whole tensor is exchanged: the fewest rounds, for small tensors."""

    def inner(group_GP: I64) -> list[Round]:
        return [
            r for bit in _bits(group_GP) for r in across(group_GP, bit, num_bytes, reduce_bytes=num_bytes)
        ]

    return _folded(group_GN, num_bytes, num_bytes, inner)


def _bits(group_GP: I64) -> list[int]:
    return [1 << number for number in range(group_GP.shape[1].bit_length() - 1)]


def _halving(group_GP: I64, num_bytes: float) -> list[Round]:
    """The larger the part, the nearer the partner."""
    rounds, part = [], num_bytes
    for bit in _bits(group_GP):
        part /= 2
        rounds += across(group_GP, bit, part, reduce_bytes=part)
    return rounds


def _doubling(group_GP: I64, num_bytes: float) -> list[Round]:
    return [Round(r.source_F, r.target_F, r.num_bytes) for r in reversed(_halving(group_GP, num_bytes))]


def halving_doubling_all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Rabenseifner's: halving the tensor with partners ever further, and the same way back."""

    def inner(group_GP: I64) -> list[Round]:
        return [*_halving(group_GP, num_bytes), *_doubling(group_GP, num_bytes)]

    return _folded(group_GN, num_bytes, num_bytes, inner)


def halving_reduce_scatter(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """log2 N rounds of half, a quarter, an eighth of the tensor."""
    back = num_bytes / group_GN.shape[1]
    return _folded(group_GN, num_bytes, back, lambda group_GP: _halving(group_GP, num_bytes))


def doubling_all_gather(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """log2 N rounds in which parts double; for other N Bruck's, where partners are that many places on."""
    members = group_GN.shape[1]
    rounds: list[Round] = []
    distance = 1
    while distance < members:
        sent = num_bytes / members * min(distance, members - distance)
        power = members & (members - 1) == 0
        rounds += across(group_GN, distance, sent) if power else around(group_GN, -distance, sent)
        distance *= 2
    return rounds


def binomial_broadcast(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """The first member sends to one far off, then both do, then four: ceil(log2 N) rounds."""
    members = group_GN.shape[1]
    rounds: list[Round] = []
    for number in reversed(range(ceil(log2(members)) if members > 1 else 0)):
        distance = 1 << number
        senders = np.arange(0, members - distance, 2 * distance)
        rounds += pairs(group_GN[:, senders], group_GN[:, senders + distance], num_bytes)
    return rounds


def binomial_all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Up the binomial tree, adding, and down again."""
    down = binomial_broadcast(group_GN, num_bytes, graph)
    up = [Round(r.target_F, r.source_F, num_bytes, reduce_bytes=num_bytes) for r in reversed(down)]
    return [*up, *down]


def scatter_gather_broadcast(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Van de Geijn's, for large tensors: parts down a binomial tree, then a ring all-gather."""
    members = group_GN.shape[1]
    rounds: list[Round] = []
    for number in reversed(range(ceil(log2(members)) if members > 1 else 0)):
        distance = 1 << number
        senders = np.arange(0, members - distance, 2 * distance)
        part = num_bytes / members * min(distance, members - distance)
        rounds += pairs(group_GN[:, senders], group_GN[:, senders + distance], part)
    return [*rounds, *ring_all_gather(group_GN, num_bytes, graph)]


def parents(members: int) -> npt.NDArray[np.int64]:
    """The parent of each member 1, 2, ... in a binary tree rooted at 0 whose leaves are the odd ones."""
    member_N = np.arange(1, members)
    low_N = member_N & -member_N
    up_N = (member_N ^ low_N) | (low_N << 1)
    return np.where(up_N < members, up_N, member_N ^ low_N)


def _depth(parent_N: I64) -> int:
    deepest = 0
    for member in range(1, len(parent_N) + 1):
        steps = 0
        while member:
            member, steps = int(parent_N[member - 1]), steps + 1
        deepest = max(deepest, steps)
    return deepest


def double_tree(group_GN: I64, num_bytes: float, graph: Graph, both_ways: bool) -> Pipelined | None:
    """Two binary trees, each with half of the tensor; most who are leaves in one work in the other.

    ``both_ways``: up, adding, and down, as for an all-reduce; otherwise only down from the first member, who
    hands the second tree's root its half.
    """
    members = group_GN.shape[1]
    if members < 2:
        return None
    child_N, parent_N = np.arange(1, members), parents(members)
    depth = _depth(parent_N)
    children, above = (
        np.concatenate([side, members - 1 - side if members % 2 == 0 else (side + 1) % members])
        for side in (child_N, parent_N)
    )
    if not both_ways:
        to_first = int(np.flatnonzero(children == 0)[0])
        above[to_first], children[to_first] = 0, members - 1 if members % 2 == 0 else 1
        (down,) = pairs(group_GN[:, above], group_GN[:, children], num_bytes / 2)
        return Pipelined(down, depth + 1)
    ends = np.concatenate([above, children]), np.concatenate([children, above])
    (step,) = pairs(group_GN[:, ends[0]], group_GN[:, ends[1]], num_bytes / 2, reduce_bytes=num_bytes / 2)
    return Pipelined(step, 2 * depth)


def islands(group_GN: I64, graph: Graph) -> tuple[I64, I64] | None:
    """Members of equal islands together, and those at the same place of all islands: for two levels.

    None where members are on one island, alone on theirs, or unequally many on each.
    """
    inner: list[list[int]] = []
    outer: list[list[int]] = []
    for group in group_GN.tolist():
        of: dict[int, list[int]] = {}
        for device in group:
            of.setdefault(graph.island_of[device], []).append(device)
        rows = list(of.values())
        sizes = {len(row) for row in rows}
        if len(rows) < 2 or len(sizes) != 1 or sizes == {1}:
            return None
        inner += rows
        outer += [list(column) for column in zip(*rows, strict=True)]
    if len({len(row) for row in inner}) != 1 or len({len(row) for row in outer}) != 1:
        return None
    return np.array(inner, np.int64), np.array(outer, np.int64)


def hierarchical_all_reduce(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round] | None:
    """Reduce-scatter in each island, all-reduce of the parts between islands, all-gather in each."""
    levels = islands(group_GN, graph)
    if levels is None:
        return None
    inner, outer = levels
    part = num_bytes / inner.shape[1]
    return [
        *ring_reduce_scatter(inner, num_bytes, graph),
        *ring_all_reduce(outer, part, graph),
        *ring_all_gather(inner, num_bytes, graph),
    ]


def hierarchical_all_gather(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round] | None:
    """Between islands first, each place its own part; then inside."""
    levels = islands(group_GN, graph)
    if levels is None:
        return None
    inner, outer = levels
    part = num_bytes / inner.shape[1]
    return [*ring_all_gather(outer, part, graph), *ring_all_gather(inner, num_bytes, graph)]


def hierarchical_reduce_scatter(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round] | None:
    """Inside first, then what is left between islands."""
    levels = islands(group_GN, graph)
    if levels is None:
        return None
    inner, outer = levels
    part = num_bytes / inner.shape[1]
    return [*ring_reduce_scatter(inner, num_bytes, graph), *ring_reduce_scatter(outer, part, graph)]


def one_to_next(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Every member but the last sends to the next: activations from stage to stage."""
    return pairs(group_GN[:, :-1], group_GN[:, 1:], num_bytes)


def shift(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """Every member sends to the next, the last to the first: a step of ring attention."""
    return around(group_GN, 1, num_bytes)


def pairwise(group_GN: I64, num_bytes: float, graph: Graph) -> list[Round]:
    """N-1 rounds of an all-to-all: to who is 1, 2, ... places on, an N-th of what a member sends."""
    members = group_GN.shape[1]
    return [r for step in range(1, members) for r in around(group_GN, step, num_bytes / members)]
