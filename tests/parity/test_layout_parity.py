"""The same training however a replica is split: float64, dropout on, clipped, slots without work."""

from typing import Any

import pytest
import torch

from hocket.core.layout import Layout
from layouts import Course, compare, course, courses, of_four
from processes import run_processes

pytestmark = pytest.mark.timeout(900)
"""On a machine with nothing else to do it is a matter of seconds."""

OF_TWO = {
    "dp_shard": (Layout(dp_shard=2), {}),
    "tp": (Layout(tp=2), {}),
    "sp": (Layout(sp=2), {}),
    "sp, all blocks recomputed": (Layout(sp=2, recompute="all"), {}),
    "sp, a limited context": (Layout(sp=2), {"left_context": 5, "right_context": 2}),
    "dp_shard, some blocks recomputed": (Layout(dp_shard=2, recompute=1), {}),
    "dp_shard, gathered once a step": (Layout(dp_shard=2, reshard="step"), {}),
    "tp, all blocks recomputed": (Layout(tp=2, recompute="all"), {}),
    "tp, an imported model": (Layout(tp=2), {"conv_norm": "frozen_batch_norm", "scale_input": True}),
    "pp, all at once": (Layout(pp=2, schedule="gpipe"), {"num_layers": 3}),
    "pp, alternating": (Layout(pp=2), {"num_layers": 3}),
    "pp, two stages each": (Layout(pp=2, schedule="interleaved"), {"num_layers": 3}),
    "pp, recomputed": (Layout(pp=2, recompute="all"), {}),
    "dp_shard, some of it frozen": (Layout(dp_shard=2), {"attention_bias": False}),
}


@pytest.fixture(scope="module")
def of_two() -> dict[str, list[Course]]:
    ranks = run_processes(2, courses, list(OF_TWO.values()), seconds=900.0)
    return {name: [found[number] for found in ranks] for number, name in enumerate(OF_TWO)}


@pytest.mark.parametrize("name", OF_TWO)
def test_two_processes(name: str, of_two: dict[str, list[Course]]) -> None:
    compare(of_two[name], course(Layout(), **OF_TWO[name][1]))


def test_gathered_parameters_stay_as_long_as_they_should(of_two: dict[str, list[Course]]) -> None:
    assert all(found.sharded_between for found in of_two["dp_shard"])
    assert not any(found.sharded_between for found in of_two["dp_shard, gathered once a step"])


@pytest.fixture(scope="module")
def alone() -> Course:
    return course(Layout())


def test_the_steps_are_clipped_and_something_is_learnt(alone: Course) -> None:
    assert min(alone.norms) > 1.0
    assert alone.losses == sorted(alone.losses, reverse=True) or alone.losses[-1] != alone.losses[0]


@pytest.fixture(scope="module")
def four() -> dict[str, list[Course]]:
    ranks = run_processes(4, courses, [(layout, {}) for layout in of_four()], seconds=900.0)
    return {str(layout): [found[number] for found in ranks] for number, layout in enumerate(of_four())}


@pytest.mark.parametrize("layout", [str(layout) for layout in of_four()])
def test_every_layout_of_four_processes(layout: str, four: dict[str, list[Course]], alone: Course) -> None:
    compare(four[layout], alone)


EXACT = {
    2: (Layout(dp_shard=2), Layout(dp_replicate=2), Layout(pp=2, schedule="interleaved")),
    4: (Layout(pp=2, dp_shard=2), Layout(pp=2, dp_replicate=2), Layout(dp_replicate=2, dp_shard=2)),
}


@pytest.mark.parametrize("num_ranks", EXACT)
def test_exact_sums_over_shards_are_those_of_one_process(num_ranks: int) -> None:
    how: dict[str, Any] = {"exact": True, "dtype": torch.float32}
    alone = course(Layout(), **how)
    ranks = run_processes(num_ranks, courses, [(layout, how) for layout in EXACT[num_ranks]])
    for number in range(len(EXACT[num_ranks])):
        compare([found[number] for found in ranks], alone, tolerance=0.0)
