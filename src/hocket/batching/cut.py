"""Cutting one pool: a fixed number of micro-batches of like length, that come in equal costs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hocket.core.cost import CostModel
from hocket.core.seeds import U64, key, mix

I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

_REFINEMENTS = 3
_BELOW = 0.5
"""How much being cheaper than the others of a step counts, against being dearer: others wait for that."""
_BEGIN = 1e-3
"""A step is begun with a group rather than filled, when no begun one would fit it so well."""
_DRIFT = 0.2
"""How much a step's first group counts that is off what the first cut expects of that step."""


def cut_pool(
    num_frames: I64, num_tokens: I64, keys: U64, cost: CostModel, num_steps: int, per_step: int, salt: int
) -> list[I64]:
    """Positions in the pool in ``num_steps * per_step`` groups, such that ``per_step`` cost the same.

    The pool is sorted by frames, longest first (equal lengths in an order keyed by ``salt``), and a
    group is a run of neighbours, so little is padding. A few long utterances cannot be cut into equal
    groups: one more is a third more. But which cost they are equal *to* is free, and many short ones
    can be cut to any cost. So each group takes the number of utterances that brings it nearest to
    what the groups before it, of some step, cost. :func:`deal_to_steps` finds the equal ones again.

    Starts from a cut into equal shares of the pool's padded cost, and keeps that one if it is no worse.
    """
    order = np.lexsort((mix(salt, keys), num_frames))[::-1]
    frames, tokens = num_frames[order], num_tokens[order]
    edges = _equal_shares(cost.per_item(frames, tokens), num_steps * per_step)
    if len(order) >= num_steps * per_step:
        for _ in range(_REFINEMENTS):
            padded = np.repeat(_padded(frames, tokens, edges, cost), np.diff(edges))
            edges = _equal_shares(padded, num_steps * per_step)
        if _padded(frames, tokens, edges, cost).min() > 0:
            fitted = _fit(frames, tokens, edges, cost, per_step)
            edges = min(edges, fitted, key=lambda cut: _waited_for(frames, tokens, cut, cost, per_step))
    return np.split(order, edges[1:-1])


def deal_to_steps(costs: F64, per_step: int, salt: int) -> list[I64]:
    """Numbers of micro-batches, ``per_step`` of nearly equal cost for each step; steps shuffled.

    Sorted by cost, neighbours share a step: no dealing has a smaller sum of the steps' largest costs.
    """
    ties = mix(salt, np.arange(len(costs), dtype=np.uint64))
    steps = np.lexsort((ties, costs)).reshape(-1, per_step)
    shuffled = np.argsort(mix(key("order of steps", salt), np.arange(len(steps), dtype=np.uint64)))
    return list(steps[shuffled])


def _equal_shares(weights: F64, num_groups: int) -> I64:
    """Group borders, ``num_groups + 1`` of them: each at the item whose middle is nearest its share.

    No group is left empty while there are items enough for all.
    """
    count = len(weights)
    running = np.cumsum(weights)
    total = running[-1] if count else 0.0
    shares = total * np.arange(1, num_groups) / num_groups
    inner = np.searchsorted(running - weights / 2, shares)
    if count >= num_groups:
        place = np.arange(1, num_groups)
        inner = np.maximum.accumulate(np.maximum(inner - place, 0)) + place
        inner = np.minimum(inner, count - num_groups + place)
    return np.concatenate(([0], inner, [count])).astype(np.int64)


def _fit(frames: I64, tokens: I64, edges: I64, cost: CostModel, per_step: int) -> I64:
    """Other borders, from the longest utterance to the shortest: see :func:`cut_pool`.

    A step wants groups of one cost: of its dearest so far, and before it has one, of what it has by
    the cut at ``edges``. What steps not begun want is scaled to what will be left for them. The short
    utterances come last, where a group can be made to fit whatever is still wanted.
    """
    num_items, num_groups = len(frames), len(edges) - 1
    padded, sizes = _padded(frames, tokens, edges, cost), np.diff(edges)
    wanted = np.sort(padded * sizes).reshape(-1, per_step)[:, per_step // 2]
    left = np.cumsum(np.repeat(padded, sizes)[::-1])[::-1].tolist()
    lacking = np.full(len(wanted), per_step)
    begun = np.zeros(len(wanted), bool)
    steps = np.arange(len(wanted))  # those that lack groups
    owed_begun, owed_others = 0.0, per_step * float(np.cumsum(wanted)[-1])
    num_first = np.arange(1, num_items + 1)
    fitted, start = [0], 0
    for group in range(num_groups - 1):
        fresh = ~begun[steps]
        if fresh.any():
            scale = _ratio(left[start] - owed_begun, owed_others)
            goals = np.where(fresh, scale, 1.0) * wanted[steps]
        else:
            goals = _ratio(left[start], owed_begun) * wanted[steps]
        at_most = num_items - start - (num_groups - 1 - group)
        alone = float(cost.per_item(frames[start], tokens[start]))
        enough = 1.1 * float(goals.max())
        window = at_most if alone * at_most <= enough else min(at_most, int(enough / alone) + 2)
        most = np.maximum.accumulate(tokens[start : start + window])
        costs = num_first[:window] * cost.per_item(frames[start], most)

        above = np.minimum(np.searchsorted(costs, goals), window - 1)
        below = np.maximum(above - 1, 0)
        off = np.stack((np.abs(costs[above] / goals - 1), _BELOW * np.abs(costs[below] / goals - 1)))
        off = np.where(fresh, _BEGIN + _DRIFT * off, off)
        best = int(off.argmin())
        place = best % len(steps)
        step, last = int(steps[place]), int((above if best < len(steps) else below)[place])

        if fresh[place]:
            owed_others -= per_step * float(wanted[step])
            wanted[step], begun[step] = costs[last], True
            owed_begun += per_step * float(costs[last])
        owed_begun -= float(wanted[step])
        lacking[step] -= 1
        if costs[last] > wanted[step]:  # the step waits for this group, so the others may cost as much
            owed_begun += float(lacking[step] * (costs[last] - wanted[step]))
            wanted[step] = costs[last]
        if lacking[step] == 0:
            steps = steps[steps != step]
        start += last + 1
        fitted.append(start)
    return np.array([*fitted, num_items], np.int64)


def _ratio(left: float, owed: float) -> float:
    """What is left over what is owed, within bounds: rounding, or a pool that cannot be cut well."""
    return min(2.0, max(0.5, left / owed)) if owed > 0 else 1.0


def _padded(frames: I64, tokens: I64, edges: I64, cost: CostModel) -> F64:
    """Seconds of an utterance of each group, as padded there; no group is empty."""
    return cost.per_item(frames[edges[:-1]], np.maximum.reduceat(tokens, edges[:-1]))


def _waited_for(frames: I64, tokens: I64, edges: I64, cost: CostModel, per_step: int) -> float:
    """Sum over steps of the largest cost, when groups of nearly equal cost share a step."""
    costs = _padded(frames, tokens, edges, cost) * np.diff(edges)
    return float(np.sort(costs).reshape(-1, per_step)[:, -1].sum())
