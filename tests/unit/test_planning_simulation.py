"""Steps of many ranks on paper: their limits are those of arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hocket.core.errors import UsageError
from hocket.planning.network import parse
from hocket.planning.simulation import (
    Dealt,
    Stragglers,
    Work,
    all_reduce_on,
    curve,
    simulate,
)

WORK = Work(0.1, 0.2, 0.01, (10e6,) * 4)
TREE = parse("fat-tree:leaf=16,oversubscription=4,link=10Gbit,latency=5us")
RATE = 10e9 / 8


def free(num_bytes: float) -> float:
    return 0.0


def a_second_for(rate: float) -> Callable[[float], float]:
    return lambda num_bytes: num_bytes / rate


@pytest.mark.parametrize("weak", [True, False])
def test_without_a_network_it_is_linear(weak: bool) -> None:
    def work(ranks: int) -> Work:
        return WORK if weak else Work(0.1 / ranks, 0.2 / ranks)

    spec = parse("switch:link=1000000Tbit,latency=0us")
    points = curve(spec, [1, 2, 16, 1024], work, num_steps=3, weak=weak)
    assert [point.speedup for point in points] == pytest.approx([1, 2, 16, 1024], rel=1e-3)
    assert [point.efficiency for point in points] == pytest.approx([1] * 4, rel=1e-3)


def test_one_slow_link_leaves_that_links_bandwidth() -> None:
    network = TREE.with_hosts(64).build().slowed("host7", "leaf0", RATE / 1000)
    summing = all_reduce_on(network, range(64))
    found = simulate(WORK, 64, summing, num_steps=2)
    over_it = 2 * 40e6 * 63 / 64 / (RATE / 1000)
    assert found.seconds == pytest.approx(over_it, rel=0.02)
    assert found.exposed_comm > 0.99 * (found.seconds - 0.32)


@pytest.mark.parametrize("ranks", [2, 1000])
def test_one_slow_rank_sets_the_pace(ranks: int) -> None:
    found = simulate(WORK, ranks, free, num_steps=5, stragglers=Stragglers(always={1: 3.0}))
    assert found.seconds == pytest.approx(3 * 0.3 + 0.01)
    assert found.compute + found.wait + found.exposed_comm == pytest.approx(found.seconds)
    assert found.wait == pytest.approx(2 * 0.3 * (ranks - 1) / ranks)


def test_sums_hide_behind_the_backward_pass_but_for_the_last_bucket() -> None:
    hidden = simulate(WORK, 8, a_second_for(10e6 / 0.04), num_steps=1)
    assert hidden.exposed_comm == pytest.approx(0.04)
    # each takes longer than computing the next: the first is ready after 0.15 s, then they queue
    queued = simulate(WORK, 8, a_second_for(10e6 / 0.1), num_steps=1)
    assert queued.seconds == pytest.approx(0.15 + 0.4 + 0.01)
    early = Work(0.1, 0.2, 0.01, (10e6,) * 4, ready=(0.0, 0.0, 0.0, 0.0))
    assert simulate(early, 8, a_second_for(10e6 / 0.04), num_steps=1).exposed_comm == pytest.approx(0.0)


def test_more_ranks_wait_longer_for_their_slowest() -> None:
    often = Stragglers(spread=0.1, share=0.001, factor=2.0, seed=3)
    waits = [simulate(WORK, ranks, free, 50, often).wait for ranks in (1, 8, 64, 1024)]
    assert waits[0] == 0.0
    assert waits == sorted(waits)
    many = simulate(WORK, 1024, free, 50, often)
    assert many.compute == pytest.approx(0.3 * 1.001 + 0.01, rel=0.01)  # drawn with the mean that was given
    again = simulate(WORK, 1024, free, 50, often)
    assert again.seconds_S.tolist() == many.seconds_S.tolist()
    other = simulate(WORK, 1024, free, 50, Stragglers(spread=0.1, share=0.001, factor=2.0, seed=4))
    assert other.seconds != many.seconds


def test_what_was_dealt_is_what_all_wait_for() -> None:
    dealt = Dealt(np.array([[1.0, 3.0], [2.0, 2.0]]))
    two = simulate(Work(1.0, 1.0), 2, lambda size: 0.0, 4, dealt)
    assert two.seconds_S.tolist() == pytest.approx([3.0, 2.0, 3.0, 2.0])  # of a mean of 2 s
    assert two.wait == pytest.approx(0.5)
    many = simulate(Work(1.0, 1.0), 1000, lambda size: 0.0, 4, dealt)
    assert many.seconds_S.tolist() == pytest.approx([3.0, 2.0, 3.0, 2.0])  # no rank has more than the largest
    assert many.compute == pytest.approx(2.0, rel=0.05)


def test_agreeing_seldom_costs_seldom_and_evens_ranks_out() -> None:
    every, seldom = (simulate(WORK, 8, lambda size: 0.1, 64, sync_every=k) for k in (1, 8))
    assert seldom.exposed_comm == pytest.approx(4 * 0.1 / 8)
    assert seldom.exposed_comm < every.exposed_comm
    uneven = Stragglers(spread=0.3)
    waits = [simulate(WORK, 64, free, 64, uneven, sync_every=k).wait for k in (1, 8)]
    assert waits[1] < 0.6 * waits[0]


def test_a_thousand_ranks_on_an_oversubscribed_tree() -> None:
    stragglers = Stragglers(spread=0.05, share=0.001, factor=3.0)
    points = curve(TREE, [16, 256, 1024], lambda ranks: WORK, num_steps=100, stragglers=stragglers)
    efficiencies = [point.efficiency for point in points]
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert 0.1 < efficiencies[-1] < 0.9
    assert [len(point.simulated.seconds_S) for point in points] == [100] * 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: Work(-1.0, 0.0), "none may be below 0"),
        (lambda: Work(0.0, 0.0, 0.0, (-5.0,)), "none may be below 0"),
        (lambda: Work(0.0, 0.0, 0.0, (5.0,), ready=(1.5,)), "a number from 0 to 1 for each"),
        (lambda: Work(0.0, 0.0, 0.0, (5.0,), ready=(0.5, 1.0)), "1 buckets are ready"),
        (lambda: Stragglers(spread=-1.0), "spread -1"),
        (lambda: Stragglers(share=2.0), "share 2"),
        (lambda: Stragglers(factor=0.0), "factor 0"),
        (lambda: Stragglers(always={3: -1.0}), "factor above 0"),
        (lambda: simulate(WORK, 0, free), "0 ranks"),
        (lambda: simulate(WORK, 1, free, 0), "0 steps"),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        wrong()
