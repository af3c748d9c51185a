"""Batches that grow, and steps that are probes: still each utterance once an epoch, and by arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from hocket.batching import BatchSettings
from plans import columns, make_plan

GROWTH = [{"epoch": 1.5, "times": 2}, {"epoch": 3, "times": 4}]


@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(1, 500),
    per_step=st.integers(1, 5),
    pool_steps=st.integers(1, 9),
    probe_every=st.integers(0, 7),
    begins=st.floats(0.01, 2.5),
    times=st.integers(1, 5),
)
def test_every_utterance_comes_once_an_epoch(
    count: int, per_step: int, pool_steps: int, probe_every: int, begins: float, times: int
) -> None:
    plan = make_plan(
        columns(count, seed=count),
        micro_batches_per_step=per_step,
        pool_steps=pool_steps,
        probe_every=probe_every,
        growth=[{"epoch": begins, "times": times}],
    )
    seen: list[list[int]] = [[], [], []]
    step = 0
    while (batch := plan.global_batch(step)).epoch < 3:
        seen[batch.epoch] += [int(row) for part in batch.micro_batches for row in part.rows]
        assert plan.position(step) == (batch.epoch, step - (plan.steps_of(batch.epoch) if batch.epoch else 0))
        step += 1
    assert all(sorted(rows) == list(range(count)) for rows in seen)
    assert step == plan.steps_of(3)


def test_steps_grow_and_micro_batches_stay() -> None:
    plan = make_plan(columns(4000), growth=GROWTH, probe_every=0)
    per_epoch = plan.steps_per_epoch
    seconds: dict[int, list[float]] = {1: [], 2: [], 4: []}
    largest: dict[int, int] = {1: 0, 2: 0, 4: 0}
    for step in range(plan.steps_of(5)):
        batch, times = plan.global_batch(step), plan.times(step)
        assert len(batch.micro_batches) == 4 * times
        seconds[times].append(batch.total_frames / 100)
        largest[times] = max(
            [largest[times], *(m.num_utterances * m.num_frames for m in batch.micro_batches)]
        )
    for times, of_steps in seconds.items():
        assert np.mean(of_steps) == pytest.approx(120 * times, rel=0.07)
        assert largest[times] < 1.4 * largest[1]
    # One and a half epochs of full steps, as many of halves, two of quarters.
    assert plan.steps_of(5) == pytest.approx(per_epoch * (1.5 + 1.5 / 2 + 2 / 4), rel=0.06)
    assert plan.steps_of(0.5) == pytest.approx(per_epoch / 2, abs=1)


def test_any_step_is_as_near_as_the_first() -> None:
    walked, jumped = (make_plan(columns(900), growth=GROWTH, probe_every=3) for _ in range(2))
    last = walked.steps_of(3.7)
    for step in range(last):
        walked.global_batch(step)
    ours, theirs = walked.global_batch(last), jumped.global_batch(last)
    assert ours.epoch == theirs.epoch == 3
    for a, b in zip(ours.micro_batches, theirs.micro_batches, strict=True):
        assert np.array_equal(a.rows, b.rows)


def test_a_probe_is_a_random_sample_that_fits_the_same_memory() -> None:
    utterances = columns(6000)
    plan = make_plan(utterances, micro_batches_per_step=4, probe_every=5)
    pairs: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    padded: dict[bool, list[int]] = {True: [], False: []}
    for step in range(plan.steps_per_epoch):
        batch = plan.global_batch(step)
        assert batch.probe == ((step + 1) % 5 == 0)
        assert len(batch.micro_batches) % 4 == 0
        specs = [spec for spec in batch.micro_batches if spec.num_utterances > 1]
        lengths = [utterances.num_samples[spec.rows] for spec in specs]
        pairs[batch.probe] += [(int(each[0]), int(each[-1])) for each in lengths]
        padded[batch.probe] += [spec.num_utterances * spec.num_frames for spec in specs]
        if batch.probe:
            assert len(batch.micro_batches) >= 8
    # Who shares a micro-batch has like lengths, but in a probe any.
    alike = {probe: float(np.corrcoef(np.array(found).T)[0, 1]) for probe, found in pairs.items()}
    assert abs(alike[True]) < 0.2 and alike[False] > 0.9
    assert max(padded[True]) <= max(padded[False])


def test_growth_and_probes_decide_what_is_learnt() -> None:
    prints = {
        make_plan(columns(100), **changes).fingerprint("corpus")
        for changes in ({}, {"growth": GROWTH}, {"probe_every": 7})
    }
    assert len(prints) == 3


def test_phases_must_rise() -> None:
    with pytest.raises(ValidationError, match="rise"):
        BatchSettings.model_validate({"growth": [{"epoch": 2, "times": 2}, {"epoch": 2, "times": 4}]})
