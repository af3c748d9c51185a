"""Every strategy at its degenerate setting is all-reduce: float64, 50 steps of SGD, 2 and 4 workers."""

from typing import Any

import pytest
import torch

from replicas import Course, apart, course, strategy

STEPS = range(50)
DEGENERATE: list[dict[str, Any]] = [
    {"name": "all_reduce", "compression": "none"},
    {"name": "all_reduce", "compression": "one_bit", "compress_after": 50},
    {"name": "all_reduce", "compression": {"name": "top_k", "density": 1.0}},
    {"name": "all_reduce", "compression": {"name": "power_sgd", "rank": 100}},
    {"name": "local_sgd", "sync_every": 1},
    {"name": "local_sgd", "sync_every": 1, "outer": {"name": "bmuf", "block_momentum": 0.0}},
    {"name": "local_sgd", "sync_every": 1, "outer": {"name": "nesterov", "lr": 1.0, "momentum": 0.0}},
    {"name": "local_sgd", "sync_every": 1, "compression": {"name": "top_k", "density": 1.0}},
]


@pytest.fixture(scope="module")
def alone() -> Course:
    return course(strategy("all_reduce"), 1, steps=STEPS)[0]


@pytest.mark.parametrize("num_ranks", [2, 4])
@pytest.mark.parametrize("given", DEGENERATE, ids=str)
def test_at_its_degenerate_setting_it_is_all_reduce(
    given: dict[str, Any], num_ranks: int, alone: Course
) -> None:
    for found in course(strategy(**given), num_ranks, steps=STEPS):
        assert apart(found.weights, alone.weights) < 1e-9
        losses = [report.loss_sum for report in found.reports]
        assert losses == pytest.approx([report.loss_sum for report in alone.reports], rel=1e-9)


@pytest.mark.parametrize(
    "given",
    [
        {"name": "all_reduce", "compression": "one_bit"},
        {"name": "all_reduce", "compression": {"name": "top_k", "density": 0.1}},
        {"name": "all_reduce", "compression": {"name": "power_sgd", "rank": 1}},
        {"name": "all_reduce", "compression": "bf16"},
        {"name": "local_sgd", "sync_every": 5},
        {"name": "local_sgd", "sync_every": 5, "outer": "nesterov"},
    ],
    ids=str,
)
def test_away_from_it_it_is_another_training_that_learns_too(given: dict[str, Any], alone: Course) -> None:
    ranks = course(strategy(**given), 2, steps=STEPS)
    assert apart(ranks[0].weights, alone.weights) > 1e-6
    assert torch.equal(ranks[0].weights, ranks[1].weights)
    start = alone.reports[0].loss_sum
    assert ranks[0].reports[-1].loss_sum < start
