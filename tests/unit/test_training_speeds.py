"""Speeds of ranks: known ones, measured ones, and that all ranks use the same at the same step."""

import pytest

from hocket.batching import assign, imbalance
from hocket.core.errors import UsageError
from hocket.training.speeds import Speeds


def test_known_speeds_deal_out_work_by_them() -> None:
    costs = [1.0] * 8
    shares = assign(costs, 2, Speeds((1.0, 0.25), 2, 0, 2).at(0))
    assert [len(share) for share in shares] == [7, 1]
    assert imbalance(costs, shares, (1.0, 0.25)) == pytest.approx(7 / 5.5)


def test_measured_speeds_follow_what_was_measured() -> None:
    speeds = Speeds("auto", 2, first_step=100, steps_ahead=2)
    seen = []
    for step in range(100, 140):
        now = speeds.at(step)
        seen.append(now)
        shares = assign([1.0] * 8, 2, now)
        loads = [float(len(share)) for share in shares]
        speeds.record(step, loads, [loads[0], 4 * loads[1]])  # the second is four times as slow
    assert seen[0] == seen[15] == [1.0, 1.0]
    assert all(now == pytest.approx([1.0, 0.25]) for now in seen[16:])


@pytest.mark.parametrize("steps_ahead", [1, 2, 9, 64])
def test_a_rank_that_reads_ahead_deals_alike(steps_ahead: int) -> None:
    """``at`` of a step read ahead gives what it gives when the step is recorded."""
    speeds = Speeds("auto", 3, first_step=0, steps_ahead=steps_ahead)
    early = {}
    for step in range(500):
        for ahead in range(step, step + steps_ahead + 2):
            early.setdefault(ahead, speeds.at(ahead))
        if step >= 1:  # a step is recorded once the next one has been handed to the device
            settled = step - 1
            assert speeds.at(settled) == early[settled]
            speeds.record(settled, [1.0, 1.0, 1.0], [1.0, 1.0 + settled, 2.0])


def test_a_rank_without_work_is_tried_again() -> None:
    speeds = Speeds("auto", 2, first_step=0, steps_ahead=2)
    for step in range(8):
        speeds.record(step, [8.0, 0.0], [8.0, 0.1])
    assert speeds.at(16) == [1.0, 1.0]


def test_one_speed_for_each_worker() -> None:
    with pytest.raises(UsageError, match="2 speeds for 3 workers"):
        Speeds((1.0, 0.5), 3, 0, 2)
