"""Dealing to replicas whose groups run side by side."""

import numpy as np
import pytest

from hocket.batching import assign, deal, imbalance


def costs_of(number: int) -> list[float]:
    return [float(each) for each in np.random.default_rng(number).lognormal(0.0, 0.4, number)]


def test_without_groups_it_is_assign() -> None:
    costs = costs_of(13)
    dealt, shares = deal(costs, 4), assign(costs, 4)
    assert [dealt.of(replica, 0) for replica in range(4)] == shares
    assert dealt.imbalance() == imbalance(costs, shares)
    assert dealt.loads == pytest.approx([sum(costs[p] for p in share) for share in shares])


@pytest.mark.parametrize(
    ("number", "replicas", "groups"), [(12, 2, 3), (13, 2, 2), (3, 1, 4), (1, 2, 2), (7, 3, 2)]
)
def test_every_micro_batch_is_run_once_and_groups_run_equally_many(
    number: int, replicas: int, groups: int
) -> None:
    dealt = deal(costs_of(number), replicas, groups)
    found = [dealt.of(replica, group) for replica in range(replicas) for group in range(groups)]
    assert sorted(p for share in found for p in share if p is not None) == list(range(number))
    for replica in range(replicas):
        assert len({len(dealt.of(replica, group)) for group in range(groups)}) == 1


def test_those_that_wait_for_each_other_cost_nearly_the_same() -> None:
    costs = costs_of(64)
    dealt = deal(costs, 2, 4)
    slots = [[costs[p] for p in slot if p is not None] for own in dealt.slots for slot in own]
    # No four can wait for less than the largest four, nor the next four for less than the next largest.
    least = sum(sorted(costs, reverse=True)[::4])
    assert sum(max(slot) for slot in slots) == pytest.approx(least)
    assert 1.0 <= dealt.imbalance() < 1.1


def test_a_faster_replica_gets_more() -> None:
    dealt = deal([1.0] * 24, 2, 2, [1.0, 3.0])
    assert [len(own) for own in dealt.slots] == [3, 9]
    assert dealt.imbalance([1.0, 3.0]) == pytest.approx(1.0)
