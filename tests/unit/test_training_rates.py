"""Learning rates that follow the batch."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hocket.training.rates import Rates, rule_factor
from hocket.training.recipe import OptimiserSettings, TrainRecipe
from plans import columns, make_plan


def rates(optimiser: dict[str, Any], seconds: float = 120.0, **batch: Any) -> Rates:
    plan = make_plan(columns(2000), seconds=seconds, **batch)
    given = {"corpus": "none", "steps": 400, "batch": {"seconds": seconds, **batch}, "optimiser": optimiser}
    return Rates.of(TrainRecipe.model_validate(given), plan)


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_a_rule_is_about_the_reference_batch(rule: str, factor: float) -> None:
    plain = rates({"lr": 1e-3, "warmup_steps": 10})
    ruled = rates({"lr": 1e-3, "warmup_steps": 10, "lr_rule": rule, "reference_seconds": 30})
    assert [ruled.at(step) for step in (0, 50, 399)] == pytest.approx(
        [factor * plain.at(step) for step in (0, 50, 399)]
    )
    assert ruled.record()["largest_lr"] == pytest.approx(factor * 1e-3)
    assert ruled.record()["lr_rule"] == rule
    assert rule_factor("sqrt", 120, 30) == 2.0


def test_growth_counts_as_another_batch() -> None:
    growing = rates(
        {"lr": 1e-3, "schedule": "constant", "warmup_steps": 0, "lr_rule": "sqrt", "reference_seconds": 120},
        growth=[{"epoch": 1, "times": 4}],
    )
    first = growing.plan.steps_of(1)
    assert growing.at(first - 1) == pytest.approx(1e-3)
    assert growing.at(first) == pytest.approx(2e-3)


def test_a_warm_up_in_utterances_has_fewer_steps_of_a_larger_batch() -> None:
    steps = [rates({"warmup_utterances": 600}, seconds).settings.warmup_steps for seconds in (60.0, 240.0)]
    assert steps[0] == pytest.approx(4 * steps[1], rel=0.15)
    assert steps[0] * rates({}, 60.0).plan.utterances_per_step == pytest.approx(600, rel=0.1)


def test_a_rule_needs_a_reference() -> None:
    with pytest.raises(ValidationError, match="reference_seconds"):
        OptimiserSettings.model_validate({"lr_rule": "linear"})
