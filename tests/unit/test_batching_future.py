"""What will be needed when is what the plan then asks for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hocket.batching import BatchPlan, BatchSettings, Part
from hocket.batching.future import Future
from plans import COST, Columns, columns


def _plan(parts: list[Part], **changes: Any) -> BatchPlan:
    settings = BatchSettings.model_validate(
        {"seconds": 120.0, "micro_batches_per_step": 4, "pool_steps": 8, **changes}
    )
    return BatchPlan(parts, settings, COST, seed=2, speed_percents=(90, 100, 110))


@pytest.fixture(scope="module")
def two() -> list[Part]:
    return [Part(columns(700, seed=1), 1.0), Part(columns(300, seed=2), 1.5, salt=7)]


def _touched(plan: BatchPlan, parts: list[Part], first: int) -> set[tuple[int, int]]:
    """(corpus, block) of all rows of the pool that begins at step ``first``."""
    pool = plan.pool_of(first)
    ends = np.cumsum([len(part.utterances.key) for part in parts])
    found = set()
    for step in range(first, first + plan.steps_per_pool):
        if plan.pool_of(step) != pool:
            break
        for spec in plan.global_batch(step).micro_batches:
            for row in spec.rows.tolist():
                corpus = int(np.searchsorted(ends, row, side="right"))
                utterances = parts[corpus].utterances
                assert isinstance(utterances, Columns)
                found.add((corpus, int(utterances.block[row - (ends[corpus - 1] if corpus else 0)])))
    return found


def test_upcoming_names_the_blocks_of_each_pool(two: list[Part]) -> None:
    plan = _plan(two)
    num_steps = 3 * plan.steps_per_epoch
    future = Future(plan, num_steps)
    pools: dict[int, set[tuple[int, int]]] = {}
    for step, corpus, block in future.upcoming(0):
        pools.setdefault(step, set()).add((corpus, block))
    assert list(pools) == list(range(0, num_steps, plan.steps_per_pool))
    for step, told in pools.items():
        assert told == _touched(plan, two, step)
    begun = plan.steps_per_epoch + plan.steps_per_pool + 3
    later = next(future.upcoming(begun))
    assert later[0] == begun - 3


def test_next_use_is_the_pool_that_needs_a_block(two: list[Part]) -> None:
    plan = _plan(two)
    num_steps = 2 * plan.steps_per_epoch
    future = Future(plan, num_steps)
    pools = [(step, _touched(plan, two, step)) for step in range(0, num_steps, plan.steps_per_pool)]
    for now in (0, plan.steps_per_pool + 2, plan.steps_per_epoch - 1):
        for corpus, part in enumerate(two):
            blocks = np.arange(len(part.utterances.block_starts) - 1)
            uses = future.next_use(corpus, blocks, now)
            for block, use in zip(blocks.tolist(), uses.tolist(), strict=True):
                needing = [step for step, told in pools if (corpus, block) in told]
                ahead = [step for step in needing if step + plan.steps_per_pool > now]
                if not ahead:
                    assert use == np.inf
                elif ahead[0] <= now:
                    assert use <= now
                else:
                    assert abs(use - ahead[0]) <= plan.steps_per_pool


def test_after_the_last_step_nothing_is_needed(two: list[Part]) -> None:
    plan = _plan(two)
    future = Future(plan, plan.steps_per_pool)
    blocks = np.arange(len(two[0].utterances.block_starts) - 1)
    told = {block for _, corpus, block in future.upcoming(0) if corpus == 0}
    uses = future.next_use(0, blocks, 0)
    assert {int(block) for block in blocks[np.isfinite(uses)]} == told


def test_pools_of_steps_that_grow_are_foreseen(two: list[Part]) -> None:
    plan = _plan(two, growth=[{"epoch": 1, "times": 4}])
    num_steps, grown = plan.steps_of(3), plan.steps_per_epoch
    firsts = [step for step in range(num_steps) if step == 0 or plan.pool_of(step) != plan.pool_of(step - 1)]
    assert firsts[-1] - firsts[-2] == 2  # a quarter of those before
    pools = {step: _touched(plan, two, step) for step in firsts}
    future = Future(plan, num_steps)
    told: dict[int, set[tuple[int, int]]] = {step: set() for step in firsts}
    for step, corpus, block in future.upcoming(0):
        told[step].add((corpus, block))
    assert told == pools
    now = grown + 3
    assert next(future.upcoming(now))[0] == grown + 2
    for corpus, part in enumerate(two):
        blocks = np.arange(len(part.utterances.block_starts) - 1)
        uses = future.next_use(corpus, blocks, now)
        for block, use in zip(blocks.tolist(), uses.tolist(), strict=True):
            ahead = [step for step, needed in pools.items() if (corpus, block) in needed and step + 2 > now]
            if not ahead:
                assert use == np.inf
            elif ahead[0] <= now:
                assert use <= now
            else:
                assert abs(use - ahead[0]) <= 2
