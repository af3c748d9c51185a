"""Partitions of a pool: each an exact permutation every epoch, and each what its name says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from hocket.batching import BatchPlan
from hocket.batching.partition import PARTITIONS, PartitionName, Pool
from hocket.core.errors import CorpusError
from hocket.core.work import MicroBatchSpec
from plans import COST, columns, make_plan, rows_of_epoch

NAMES = sorted(PARTITIONS)
STUDIED = [name for name in NAMES if name != "by_cost"]


def make_pool(count: int, num_speakers: int = 20) -> Pool:
    made = replace(columns(count), num_speakers=num_speakers)
    return Pool(
        made.num_samples // 160, made.num_tokens.astype(np.int64), made.key, made.speaker.astype(np.int64)
    )


def of_epoch(plan: BatchPlan, epoch: int = 0) -> list[tuple[MicroBatchSpec, ...]]:
    first = epoch * plan.steps_per_epoch
    return [plan.global_batch(step).micro_batches for step in range(first, first + plan.steps_per_epoch)]


def test_a_recipe_knows_every_partition_of_the_table() -> None:
    assert list(get_args(PartitionName)) == list(PARTITIONS)


@pytest.mark.parametrize("name", NAMES)
@examples(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 400),
    num_speakers=st.integers(1, 60),
    per_step=st.integers(1, 9),
    pool_steps=st.integers(1, 9),
    seconds=st.floats(5, 400),
)
def test_an_epoch_is_a_permutation_of_the_corpus(
    name: str, count: int, num_speakers: int, per_step: int, pool_steps: int, seconds: float
) -> None:
    utterances = replace(columns(count, seed=count), num_speakers=num_speakers)
    plan = make_plan(
        utterances,
        partition=name,
        micro_batches_per_step=per_step,
        pool_steps=pool_steps,
        seconds=seconds,
    )
    assert sorted(rows_of_epoch(plan, 1)) == list(range(count))
    assert {len(micro_batches) for micro_batches in of_epoch(plan)} == {per_step}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_the_same_whatever_was_asked_for_before(name: str) -> None:
    walked, jumped = (make_plan(columns(900), partition=name) for _ in range(2))
    last = 2 * walked.steps_per_epoch - 1
    for step in range(last):
        walked.global_batch(step)
    pairs = zip(walked.global_batch(last).micro_batches, jumped.global_batch(last).micro_batches, strict=True)
    assert all(np.array_equal(a.rows, b.rows) for a, b in pairs)


@pytest.mark.parametrize("name", NAMES)
def test_the_salt_and_nothing_else_changes_it(name: str) -> None:
    pool = make_pool(300)
    once, again, other = (PARTITIONS[name](pool, 5, 4, COST, salt) for salt in (1, 1, 2))
    flat = [np.concatenate([np.concatenate(step) for step in steps]) for steps in (once, again, other)]
    assert np.array_equal(flat[0], flat[1])
    assert not np.array_equal(flat[0], flat[2])


@pytest.mark.parametrize("name", STUDIED)
def test_the_others_than_by_cost_cut_equal_numbers(name: str) -> None:
    sizes = {len(part) for step in PARTITIONS[name](make_pool(503), 5, 4, COST, 0) for part in step}
    assert sizes == {25, 26}


def test_the_partition_is_part_of_the_fingerprint() -> None:
    prints = {make_plan(columns(100), partition=name).fingerprint("corpus") for name in NAMES}
    assert len(prints) == len(NAMES)


def test_by_cost_pads_least_and_waits_least() -> None:
    padding, waiting = {}, {}
    for name in NAMES:
        steps = of_epoch(make_plan(columns(3000), partition=name, seconds=600.0))
        specs = [spec for step in steps for spec in step]
        real = sum(spec.total_frames for spec in specs)
        padding[name] = 1 - real / sum(spec.num_frames * spec.num_utterances for spec in specs)
        costs = np.array([[spec.cost for spec in step] for step in steps])
        waiting[name] = float(np.mean(costs.max(1) / costs.mean(1))) - 1
    for name in STUDIED:
        assert padding["by_cost"] < 0.2 * padding[name]
        assert waiting["by_cost"] < 0.2 * waiting[name]


def spread(
    steps: list[list[npt.NDArray[np.int64]]], of: Callable[[npt.NDArray[np.int64]], float]
) -> tuple[float, float]:
    """Standard deviation of a figure over micro-batches, and over steps."""
    return (
        float(np.std([of(part) for step in steps for part in step])),
        float(np.std([of(np.concatenate(step)) for step in steps])),
    )


def test_stratified_steps_and_micro_batches_are_more_alike_than_random_ones() -> None:
    pool = make_pool(4000)

    def seconds(part: npt.NDArray[np.int64]) -> float:
        return float(pool.num_frames[part].mean())

    def most_of_one(part: npt.NDArray[np.int64]) -> float:
        return float(np.bincount(pool.speakers[part]).max() / len(part))

    def mean_most(steps: list[list[npt.NDArray[np.int64]]]) -> float:
        return float(np.mean([most_of_one(np.concatenate(step)) for step in steps]))

    even, at_random = (PARTITIONS[name](pool, 10, 8, COST, 3) for name in ("stratified", "random"))
    for ours, theirs in zip(spread(even, seconds), spread(at_random, seconds), strict=True):
        assert ours < 0.6 * theirs
    assert mean_most(even) < 0.85 * mean_most(at_random)


def test_by_speaker_puts_few_speakers_into_a_micro_batch_and_a_step() -> None:
    pool = make_pool(4000)
    steps = PARTITIONS["by_speaker"](pool, 10, 8, COST, 3)  # 50 in a micro-batch, about 200 of a speaker
    assert max(len(np.unique(pool.speakers[part])) for step in steps for part in step) <= 3
    assert max(len(np.unique(pool.speakers[np.concatenate(step)])) for step in steps) <= 5
    first_speakers = [int(pool.speakers[step[0][0]]) for step in steps]
    assert first_speakers != sorted(first_speakers)


def test_utterances_without_a_speaker() -> None:
    nobody = replace(columns(300), num_speakers=0)
    with pytest.raises(CorpusError, match="names no speakers"):
        make_plan(nobody, partition="by_speaker")
    assert sorted(rows_of_epoch(make_plan(nobody, partition="stratified"), 0)) == list(range(300))
    pool = make_pool(400, num_speakers=2)
    half = replace(pool, speakers=np.where(pool.speakers == 0, -1, pool.speakers))
    steps = PARTITIONS["by_speaker"](half, 5, 4, COST, 0)
    known = [int((half.speakers[part] == 1).sum()) for step in steps for part in step]
    assert max(known) == 20
