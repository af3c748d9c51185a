"""Where a pipeline is cut, in which order it runs, and how long that takes on paper."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from hocket.core.errors import UsageError
from hocket.model import ModelConfig, build
from hocket.parallel.pipeline import balanced, check_learning
from hocket.parallel.pipeline_balance import balance
from hocket.parallel.pipeline_schedule import Action, Order, ScheduleName, make_order
from hocket.planning.pipeline import simulate
from small import SMALL_MODEL

COSTS = st.lists(st.integers(1, 50), min_size=1, max_size=9)


@given(COSTS, st.integers(1, 5))
@examples(max_examples=150, deadline=None)
def test_stages_are_the_best_of_all_cuts(costs: list[int], num_stages: int) -> None:
    if num_stages > len(costs):
        with pytest.raises(UsageError, match=f"{num_stages} pipeline stages out of a model of {len(costs)}"):
            balance(costs, num_stages)
        return
    found = balance(costs, num_stages)
    assert [piece for stage in found for piece in stage] == list(range(len(costs)))
    assert all(len(stage) for stage in found)

    def worth(cuts: tuple[int, ...]) -> tuple[int, int]:
        ends = (0, *cuts, len(costs))
        sums = [sum(costs[a:b]) for a, b in pairwise(ends)]
        return max(sums), sum(each * each for each in sums)

    best = min(map(worth, combinations(range(1, len(costs)), num_stages - 1)))
    assert worth(tuple(stage.start for stage in found[1:])) == best


def test_a_heavy_front_gets_fewer_blocks() -> None:
    assert balance([3.0, 1.0, 1.0, 1.0, 1.0, 0.2], 2) == [range(0, 2), range(2, 6)]


def test_ranks_of_several_stages_are_even() -> None:
    costs = [0.9, *[1.0] * 12, 0.1]  # stages by themselves would be 2 2 2 1 1 2 2 2: 2.9, 4, 4, 3.1 by rank
    found = balance(costs, 4, chunks=2)
    ranks = [sum(sum(costs[piece] for piece in stage) for stage in found[rank::4]) for rank in range(4)]
    assert max(ranks) == pytest.approx(3.9)
    assert min(ranks) == pytest.approx(3.0)


WAYS = [
    (name, degree, chunks)
    for name, chunks in (("gpipe", 1), ("1f1b", 1), ("interleaved", 2), ("interleaved", 3))
    for degree in range(2, 7)
]


def each_second(_: Action) -> float:
    return 1.0


@pytest.mark.parametrize(("name", "degree", "chunks"), WAYS)
def test_every_action_is_taken_once_and_nothing_waits_for_itself(
    name: ScheduleName, degree: int, chunks: int
) -> None:
    for num in range(2 * degree + 4):
        order = make_order(name, degree, chunks, num)
        simulate(order, each_second)
        for rank, actions in enumerate(order):
            stages = range(rank, degree * chunks, degree)
            for kind in ("forward", "backward"):
                for stage in stages:
                    taken = [a.micro_batch for a in actions if (a.kind, a.stage) == (kind, stage)]
                    assert taken == list(range(num))
            assert len(actions) == 2 * num * chunks


def most_held(order: Order) -> list[int]:
    """Passes forward whose backward is still to come, at most, by rank."""
    most = []
    for actions in order:
        held = [0]
        for action in actions:
            held.append(held[-1] + (1 if action.kind == "forward" else -1))
        most.append(max(held))
    return most


def test_one_forward_one_backward_holds_few_activations() -> None:
    assert most_held(make_order("gpipe", 4, 1, 16)) == [16, 16, 16, 16]
    assert most_held(make_order("1f1b", 4, 1, 16)) == [4, 3, 2, 1]


@pytest.mark.parametrize("num", [1, 4, 8, 32])
@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("name", ["gpipe", "1f1b"])
def test_the_bubble_of_equal_stages_is_the_known_one(name: ScheduleName, degree: int, num: int) -> None:
    found = simulate(make_order(name, degree, 1, num), lambda a: 1.0 if a.kind == "forward" else 2.0)
    assert found.seconds == 3.0 * (num + degree - 1)
    assert found.busy == (3.0 * num,) * degree
    assert found.bubble == pytest.approx((degree - 1) / (num + degree - 1))


@pytest.mark.parametrize("chunks", [2, 3])
@pytest.mark.parametrize("degree", [2, 4])
def test_chunks_divide_the_bubble(degree: int, chunks: int) -> None:
    num = 4 * degree
    order = make_order("interleaved", degree, chunks, num)
    found = simulate(order, lambda a: (1.0 if a.kind == "forward" else 2.0) / chunks)
    assert found.bubble == pytest.approx((degree - 1) / (chunks * num + degree - 1))


def test_transfers_are_waited_for_and_the_slowest_stage_sets_the_pace() -> None:
    order = make_order("gpipe", 2, 1, 2)
    assert simulate(order, each_second, transfer=lambda _: 0.25).seconds == 6.5
    slow = simulate(order, lambda a: 3.0 if a.stage == 1 else 1.0)
    assert slow.seconds == 1.0 + 4 * 3.0 + 1.0
    assert slow.busy == (4.0, 12.0)
    assert slow.ends[Action("backward", 1, 0)] == 10.0


def test_a_circle_is_an_error() -> None:
    order = [[Action("backward", 0, 0), Action("forward", 0, 0)], [Action("forward", 1, 0)]]
    with pytest.raises(ValueError, match="waits for itself"):
        simulate(order, each_second)


@pytest.mark.parametrize(("name", "chunks"), [("gpipe", 2), ("1f1b", 3), ("interleaved", 1)])
def test_chunks_that_a_schedule_cannot_have_are_refused(name: ScheduleName, chunks: int) -> None:
    with pytest.raises(UsageError, match=f"schedule {name} with {chunks} chunks"):
        make_order(name, 2, chunks, 4)


def test_a_stage_that_would_learn_nothing_is_refused() -> None:
    model = build(ModelConfig.model_validate(SMALL_MODEL).with_tokens(12), seed=1)
    stages = balanced(model, 2)
    check_learning(model, stages, 2)
    for piece in model.pieces(100)[stages[1].start :]:
        model.get_submodule(piece.name).requires_grad_(False)
    with pytest.raises(UsageError, match=r"pp=2, stage 2 .*ctc_head\) is frozen"):
        check_learning(model, stages, 2)
