"""What is written down of a step, under every strategy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hocket.batching import BatchPlan, BatchSettings, Part
from hocket.core.errors import RunError
from hocket.core.protocols import StepReport
from hocket.training.progress import Progress
from hocket.training.recipe import NumericsSettings
from hocket.training.recording import count_step, mind_skipped
from plans import COST, columns

PLAN = BatchPlan(
    [Part(columns(60, seed=1)), Part(columns(90, seed=2), 2.0, salt=5)],
    BatchSettings(seconds=120.0, micro_batches_per_step=4, pool_steps=4),
    COST,
    seed=1,
)


def report_of(step: int) -> StepReport:
    utterances = PLAN.digest(PLAN.global_batch(step))
    return StepReport(12.0, 1.0, False, 0, utterances, False, (0.1,), 0.0)


def test_a_step_is_counted_with_what_it_had_of_each_corpus() -> None:
    progress, batch = Progress(), PLAN.global_batch(0)
    facts = count_step(progress, PLAN, ("read", "calls"), batch, report_of(0))
    assert set(facts["frames_by_corpus"]) == {"read", "calls"}
    assert sum(facts["frames_by_corpus"].values()) == facts["num_frames"] == batch.total_frames
    assert progress.frames_by_corpus == facts["frames_by_corpus"]
    assert progress.step == 1
    assert facts["loss"] == 12.0 / batch.total_tokens


def test_a_step_of_other_utterances_than_its_plan_is_an_error_in_the_program() -> None:
    wrong = replace(report_of(0), utterances=7)
    with pytest.raises(RuntimeError, match="step 0 did not learn from exactly"):
        count_step(Progress(), PLAN, ("read", "calls"), PLAN.global_batch(0), wrong)


def test_too_many_skipped_steps_in_a_row_end_a_run() -> None:
    progress, settings = Progress(), NumericsSettings(max_skipped=2)

    def one(step: int, skipped: bool) -> None:
        report = replace(report_of(step), skipped=skipped)
        count_step(progress, PLAN, ("read", "calls"), PLAN.global_batch(step), report)
        mind_skipped(progress, settings, step)

    for step, skipped in enumerate((True, False, True)):
        one(step, skipped)
    with pytest.raises(RunError, match=r"2 steps in a row .* the last at step 3"):
        one(3, True)
