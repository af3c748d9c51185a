"""A study of batch sizes: which runs, where the knee is, and what the page says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hocket.core.errors import UsageError
from hocket.studies.batch import page
from hocket.studies.batch.grid import BatchStudy, expand
from hocket.studies.batch.knee import audio_to, find_knee, interval, sizes, target_of
from hocket.studies.batch.running import BINS, Measured, curve
from hocket.studies.batch.study import BatchReport
from hocket.training.rates import Rates
from plans import columns, make_plan

KNEE, LEAST = 120.0, 1000.0


def measured(times: int, rule: str = "sqrt", seed: int = 1, knee: float = KNEE) -> Measured:
    """A run whose loss falls as the law of the noise scale says: to 1 after ``LEAST * (1 + B / knee)``."""
    batch = 20.0 * times
    slower = 1 + batch / knee
    total = 4000.0
    losses = [
        3.0 - 2.0 * min(1.2, total * (number + 0.5) / BINS / (LEAST * slower)) for number in range(BINS)
    ]
    return Measured(
        fingerprint=f"{times}-{rule}-{seed}",
        times=times,
        rule=rule,
        seed=seed,
        steps=round(total / batch),
        batch_seconds=batch,
        largest_lr=1e-3,
        num_parameters=10,
        audio_seconds=total,
        wall_seconds=10.0,
        took_seconds=12.0,
        losses=losses,
        noise=[[0.05, 90.0], [0.1, 100.0], [0.5, 400.0]],
        dev_wer=0.2,
        dev_loss=1.0,
        wer=0.1 + 0.01 * seed,
        wer_low=0.08,
        wer_high=0.14,
        errors=[1, 0, 2, 0, 1, 0, 0, 1, 0, 1],
        words=[6] * 10,
        weights_sha256="0",
    )


def test_the_knee_of_runs_that_follow_the_law_is_found() -> None:
    found = [measured(times) for times in (1, 2, 4, 8, 16)]
    of_sizes = sizes(found, 1.0)
    knee = find_knee(found, of_sizes, "sqrt", 1.0)
    assert knee.seconds == pytest.approx(KNEE, rel=0.05)
    assert knee.least_audio == pytest.approx(LEAST, rel=0.03)
    assert knee.noise_early == 100.0  # the last within the first 15 %
    assert knee.noise_whole == 400.0
    assert knee.ratio == pytest.approx(100.0 / KNEE, rel=0.05)
    assert of_sizes[0].audio_to_target == pytest.approx(LEAST * (1 + 20 / KNEE), rel=0.02)
    assert of_sizes[0].steps_to_target == pytest.approx(of_sizes[0].audio_to_target / 20.0, rel=0.02)


def test_a_size_that_never_gets_there_has_no_point_and_no_say() -> None:
    found = [measured(times) for times in (1, 2, 4)] + [measured(64)]
    of_sizes = sizes(found, 1.0)
    assert of_sizes[-1].audio_to_target is None
    assert find_knee(found, of_sizes, "sqrt", 1.0).seconds == pytest.approx(KNEE, rel=0.05)
    flat = [measured(times, knee=1e9) for times in (1, 2)]
    told = find_knee(flat, sizes(flat, 1.0), "sqrt", 1.0)
    assert told.seconds is None or told.seconds > 1e4


def test_the_target_is_within_reach_of_larger_steps() -> None:
    found = [measured(times) for times in (1, 2, 4, 8)]
    target = target_of(found)
    assert all(audio_to(each, target) is not None for each in found)


def test_an_interval_over_seeds_holds_their_mean() -> None:
    runs = [replace(measured(1, seed=seed), errors=[seed % 2] * 10) for seed in (1, 2, 3)]
    low, high = interval(runs)
    assert low < (0 + 1 + 1) / 3 / 6 < high
    assert interval(runs[:1]) == (0.08, 0.14)


def test_a_curve_weighs_steps_by_their_audio() -> None:
    steps: list[dict[str, Any]] = [{"num_frames": 100, "loss": 4.0}, {"num_frames": 300, "loss": 2.0}]
    losses = curve(steps)
    assert len(losses) == BINS
    assert sum(losses) / BINS == pytest.approx((100 * 4 + 300 * 2) / 400)
    assert losses[0] == pytest.approx(4.0) and losses[-1] == pytest.approx(2.0)


def test_runs_have_the_same_audio_and_rates_by_rule(write_recipe: Callable[..., Path]) -> None:
    study = BatchStudy.model_validate({"times": (1, 2, 4), "rules": ("sqrt", "none"), "seeds": 2})
    grid = expand(write_recipe(steps=40, optimiser={"lr": 1e-3, "warmup_steps": 8}), study)
    labels = [cell.label for cell in grid.cells]
    assert labels == [
        *("x1, seed 3", "x2, sqrt, seed 3", "x4, sqrt, seed 3", "x2, none, seed 3", "x4, none, seed 3"),
        *("x1, seed 4", "x2, sqrt, seed 4", "x4, sqrt, seed 4"),
    ]
    for cell in grid.cells:
        recipe = cell.recipe
        assert recipe.steps is not None
        assert recipe.steps * recipe.batch.seconds == 40 * 20
        assert recipe.batch.seconds / recipe.batch.micro_batches_per_step == pytest.approx(20 / 6)
        assert recipe.optimiser.warmup_steps * cell.times == 8
        rates = Rates.of(recipe, make_plan(columns(200), seconds=recipe.batch.seconds))
        factor = cell.times**0.5 if cell.rule == "sqrt" else 1.0
        assert rates.record()["largest_lr"] == pytest.approx(1e-3 * factor)
    assert len({cell.folder for cell in grid.cells}) == len(grid.cells)
    assert len({cell.recipe.batch.probe_every for cell in grid.cells}) == 1
    with pytest.raises(UsageError, match="less than two"):
        expand(write_recipe(steps=5), study)


def test_a_recipe_with_a_rule_of_its_own_is_taken_at_the_rate_that_it_comes_to(
    write_recipe: Callable[..., Path],
) -> None:
    study = BatchStudy.model_validate({"times": (1, 4), "rules": ("sqrt", "none"), "seeds": 1})
    own = {"lr": 1e-3, "lr_rule": "linear", "reference_seconds": 10}
    rates = {}
    for cell in expand(write_recipe(steps=40, optimiser=own), study).cells:
        plan = make_plan(columns(200), seconds=cell.recipe.batch.seconds)
        rates[cell.times, cell.rule] = Rates.of(cell.recipe, plan).record()["largest_lr"]
    assert rates == {(1, "sqrt"): 2e-3, (4, "sqrt"): 4e-3, (4, "none"): 2e-3}


def test_the_page_stands_on_its_own_and_says_what_was_found() -> None:
    found = [measured(times) for times in (1, 2, 4, 16)] + [measured(2, "none"), measured(1, seed=2)]
    of_sizes = sizes(found, 1.0)
    report = BatchReport(
        recipe="an4.yaml",
        rule="sqrt",
        workers=2,
        num_cells=len(found),
        num_planned=9,
        micro_batches_per_step=4,
        knee=find_knee(found, of_sizes, "sqrt", 1.0),
        sizes=of_sizes,
        runs=found,
        failed={"x16, linear, seed 1": "the loss is not finite & more"},
        split="test",
        machine={"cpu": "one"},
        page=Path("batch.html"),
    )
    drawn = page.draw(report)
    assert drawn.count("<svg") == 6
    assert "2 more to come" in drawn
    assert "Failed: x16, linear, seed 1: the loss is not finite &amp; more" in drawn
    assert "times the recipe&#x27;s, need twice the audio" in drawn
    assert ">×16<" in drawn and ">×16: 320 s<" in drawn
    assert drawn.count("sqrt, 95 %") == 1  # both ends of an interval are one entry of the legend
    assert "src=" not in drawn and "@import" not in drawn
    body = drawn[drawn.index("<body>") : drawn.index("</body>") + len("</body>")]
    ElementTree.fromstring(body)
