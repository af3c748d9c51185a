"""Cutting one pool: a fixed number of micro-batches of nearly equal padded cost, dealt to steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hocket.core.cost import CostModel
from hocket.core.seeds import U64, key, mix

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_REFINEMENTS = 4


def cut_pool(
    num_frames: I64, num_tokens: I64, keys: U64, cost: CostModel, num_parts: int, salt: int
) -> list[I64]:
    """Positions in the pool, cut into ``num_parts`` groups of like length and nearly equal cost.

    The pool is sorted by frames (equal lengths in an order keyed by ``salt``) and cut where the
    running cost passes equal shares. Costs are first those of the utterances alone, then as padded
    by the previous cut, so that groups with a wide spread of lengths come out smaller.
    """
    order = np.lexsort((mix(salt, keys), num_frames))
    frames, tokens = num_frames[order], num_tokens[order]
    weights = cost.per_item(frames, tokens)
    edges = _edges(weights, num_parts)
    for _ in range(_REFINEMENTS):
        padded = cost.per_item(*_padded(frames, tokens, edges))
        weights = np.repeat(padded, np.diff(edges))
        refined = _edges(weights, num_parts)
        if np.array_equal(refined, edges):
            break
        if _largest(cost, frames, tokens, refined) > _largest(cost, frames, tokens, edges):
            break
        edges = refined
    return np.split(order, edges[1:-1])


def deal_to_steps(costs: F64, per_step: int, salt: int) -> list[I64]:
    """Numbers of micro-batches, ``per_step`` of nearly equal cost for each step; steps shuffled."""
    ties = mix(salt, np.arange(len(costs), dtype=np.uint64))
    steps = np.lexsort((ties, costs)).reshape(-1, per_step)
    shuffled = np.argsort(mix(key("order of steps", salt), np.arange(len(steps), dtype=np.uint64)))
    return list(steps[shuffled])


def _edges(weights: F64, num_parts: int) -> I64:
    """Group borders, ``num_parts + 1`` of them: each at the item whose middle is nearest its share.

    No group is left empty while there are items enough for all.
    """
    count = len(weights)
    running = np.cumsum(weights)
    total = running[-1] if count else 0.0
    shares = total * np.arange(1, num_parts) / num_parts
    inner = np.searchsorted(running - weights / 2, shares)
    if count >= num_parts:
        place = np.arange(1, num_parts)
        inner = np.maximum.accumulate(np.maximum(inner - place, 0)) + place
        inner = np.minimum(inner, count - num_parts + place)
    return np.concatenate(([0], inner, [count])).astype(np.int64)


def _padded(frames: I64, tokens: I64, edges: I64) -> tuple[I64, I64]:
    """Largest frames and tokens of each group; 0 for an empty one."""
    first, last = edges[:-1], edges[1:]
    filled = last > first
    longest = (
        np.where(filled, frames[np.maximum(last - 1, 0)], 0)
        if len(frames)
        else np.zeros(len(first), np.int64)
    )
    most = np.zeros(len(first), np.int64)
    if filled.any():
        most[filled] = np.maximum.reduceat(tokens, first[filled])
    return longest, most


def _largest(cost: CostModel, frames: I64, tokens: I64, edges: I64) -> float:
    return float(cost.micro_batch(np.diff(edges), *_padded(frames, tokens, edges)).max())
