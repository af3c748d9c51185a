"""Corpora by weight: how often each utterance comes, in what order, and what it costs to be anywhere."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from hocket.batching import BatchPlan, BatchSettings, Part
from hocket.core.work import MicroBatchSpec
from plans import COST, Columns, columns, make_plan

SMALL, LARGE = columns(150, seed=1), columns(700, seed=2)


def mixed(*parts: Part, seed: int = 0, **changes: object) -> BatchPlan:
    given = {"seconds": 120.0, "micro_batches_per_step": 4, "pool_steps": 8, **changes}
    settings = BatchSettings.model_validate(given)
    return BatchPlan(list(parts), settings, COST, seed=seed, speed_percents=(90, 100, 110))


def specs(plan: BatchPlan, *epochs: int) -> list[MicroBatchSpec]:
    steps = [step for e in epochs for step in range(e * plan.steps_per_epoch, (e + 1) * plan.steps_per_epoch)]
    return [spec for step in steps for spec in plan.global_batch(step).micro_batches]


def counts(plan: BatchPlan, *epochs: int) -> Counter[int]:
    return Counter(int(row) for spec in specs(plan, *epochs) for row in spec.rows)


def test_one_corpus_at_weight_one_is_what_it_was_alone() -> None:
    alone, listed = make_plan(LARGE), mixed(Part(LARGE))
    assert alone.fingerprint("x") == listed.fingerprint("x")
    for step in (0, 3, 3 * alone.steps_per_epoch + 1):
        for one, other in zip(
            alone.global_batch(step).micro_batches, listed.global_batch(step).micro_batches, strict=True
        ):
            np.testing.assert_array_equal(one.rows, other.rows)
            np.testing.assert_array_equal(one.passes, np.full(len(one.rows), alone.position(step)[0]))


@pytest.mark.parametrize("weight", [1.0, 3.0, 0.5, 0.25, 2.5, 0.3])
def test_a_weight_is_how_many_times_an_epoch_goes_through(weight: float) -> None:
    plan = mixed(Part(LARGE), Part(SMALL, weight, salt=5))
    for epoch in range(5):
        found = counts(plan, epoch)
        assert all(found[row] == 1 for row in range(700))
        assert abs(sum(found[row] for row in range(700, 850)) - 150 * weight) < 1
    over = counts(plan, *range(5))
    times = [over[row] for row in range(700, 850)]
    assert max(times) - min(times) <= 1  # however the weight divides, nobody is forgotten
    whole = counts(plan, 0, 1) if weight == 0.5 else counts(plan, *range(4)) if weight == 0.25 else None
    if whole is not None:
        assert all(whole[row] == 1 for row in range(700, 850))


def test_the_mix_is_the_same_throughout_an_epoch() -> None:
    plan = mixed(Part(LARGE), Part(SMALL, 2.0, salt=5))
    assert plan.num_pools > 3
    for pool in range(plan.num_pools):
        steps = range(pool * plan.steps_per_pool, (pool + 1) * plan.steps_per_pool)
        rows = np.concatenate([s.rows for step in steps for s in plan.global_batch(step).micro_batches])
        assert (rows >= 700).mean() == pytest.approx(300 / 1000, abs=0.01)


def test_each_time_an_utterance_comes_it_is_another_pass() -> None:
    plan = mixed(Part(LARGE), Part(SMALL, 4.0, salt=5))
    seen: dict[int, list[int]] = {}
    speeds: Counter[int] = Counter()
    for spec in specs(plan, 0, 1):
        assert spec.passes is not None
        for row, number, percent in zip(spec.rows, spec.passes, spec.speed_percent, strict=True):
            seen.setdefault(int(row), []).append(int(number))
            if row >= 700:
                speeds[int(percent)] += 1
    assert all(sorted(seen[row]) == list(range(8)) for row in range(700, 850))
    assert all(sorted(seen[row]) == [0, 1] for row in range(700))
    assert min(speeds.values()) > 0.25 * sum(speeds.values())  # not one draw for all four


def test_any_place_is_reached_without_what_comes_before_it() -> None:
    parts = (Part(LARGE), Part(SMALL, 2.7, salt=5))
    walked, straight = mixed(*parts), mixed(*parts)
    last = 4 * walked.steps_per_epoch + 7
    for step in range(last):
        walked.global_batch(step)
    for one, other in zip(
        walked.global_batch(last).micro_batches, straight.global_batch(last).micro_batches, strict=True
    ):
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.speed_percent, other.speed_percent)


def test_equal_ids_in_two_corpora_are_two_utterances() -> None:
    plan = mixed(Part(SMALL, salt=3), Part(SMALL, salt=4))
    assert all(count == 1 for count in counts(plan, 0).values())
    speed = {int(r): int(p) for s in specs(plan, 0) for r, p in zip(s.rows, s.speed_percent, strict=True)}
    assert any(speed[row] != speed[row + 150] for row in range(150))
    other = mixed(Part(SMALL, salt=3), Part(SMALL, salt=6))
    assert plan.digest(plan.global_batch(0)) != other.digest(other.global_batch(0))


def test_frames_are_told_by_corpus() -> None:
    plan = mixed(Part(LARGE), Part(SMALL, 2.0, salt=5))
    for step in (0, 11):
        batch = plan.global_batch(step)
        assert sum(plan.frames_by_corpus(batch)) == batch.total_frames
    large, small = np.sum(
        [plan.frames_by_corpus(plan.global_batch(s)) for s in range(plan.steps_per_epoch)], 0
    )
    expected = 2 * SMALL.num_samples.sum() / LARGE.num_samples.sum()
    assert small / large == pytest.approx(expected, rel=0.02)


def test_a_step_is_as_large_as_asked_whatever_the_weights() -> None:
    for weight in (0.3, 1.0, 5.0):
        plan = mixed(Part(LARGE), Part(SMALL, weight, salt=5))
        frames = sum(spec.total_frames for spec in specs(plan, 0))
        assert frames / 100 / plan.steps_per_epoch == pytest.approx(120, rel=0.1)


def test_weights_names_and_order_are_in_the_fingerprint() -> None:
    plans = [
        mixed(Part(LARGE)),
        mixed(Part(LARGE, 2.0)),
        mixed(Part(LARGE), Part(SMALL, 1.0, salt=5)),
        mixed(Part(LARGE), Part(SMALL, 2.0, salt=5)),
        mixed(Part(LARGE), Part(SMALL, 2.0, salt=6)),
        mixed(Part(SMALL, 2.0, salt=5), Part(LARGE)),
    ]
    assert len({plan.fingerprint("x") for plan in plans}) == len(plans)


def test_speakers_of_two_corpora_are_not_the_same_people() -> None:
    plan = mixed(Part(SMALL, salt=1), Part(SMALL, salt=2), partition="by_speaker")
    unknown = mixed(Part(replace(SMALL, num_speakers=0), salt=1), Part(SMALL, salt=2), partition="by_speaker")
    assert all(count == 1 for count in (counts(plan, 0) | counts(unknown, 0)).values())
    draw = plan._mixture.pool(0, 0, 1)
    first, second = draw.speakers[draw.rows < 150], draw.speakers[draw.rows >= 150]
    assert not set(first.tolist()) & set(second.tolist())


def test_nothing_is_held_that_grows_with_a_permutation() -> None:
    rows = np.arange(280_000)
    large = Columns(
        num_samples=np.tile(LARGE.num_samples, 400),
        num_tokens=np.tile(LARGE.num_tokens, 400),
        block=(rows // 64).astype(np.int32),
        key=rows.astype(np.uint64),
    )
    plan = mixed(Part(large), Part(SMALL, 3.0, salt=5))
    plan.global_batch(0)
    plan.global_batch(5 * plan.steps_per_epoch + 17)
    (stream, _) = plan._mixture._streams
    held = sum(order._blocks.nbytes + order._ends.nbytes for order in stream._orders.values())
    assert held <= 2 * 2 * 8 * (280_000 // 64 + 1)
