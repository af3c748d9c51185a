"""A worker that cannot reach a shard tries for a time, however often that is, before it is given up."""

from __future__ import annotations

from hocket.training.leased.roster import TRY_AGAIN_SECONDS, Trouble


def test_many_tries_at_one_moment_last_no_time() -> None:
    """As when a shard was just killed, and its workers notice it before the supervisor does."""
    trouble = Trouble()
    assert [trouble.begin(100.0) for _ in range(10)] == [0.0] * 10


def test_it_is_told_to_try_again_after_a_pause() -> None:
    trouble = Trouble()
    assert not trouble.due
    trouble.begin(100.0)
    assert trouble.due
    assert trouble.waits(100.0)
    assert not trouble.waits(100.0 + TRY_AGAIN_SECONDS)
    trouble.told()
    assert not trouble.due
    assert not trouble.waits(100.0)


def test_it_lasts_from_the_first_failure_until_work_is_done() -> None:
    trouble = Trouble()
    trouble.begin(100.0)
    trouble.told()
    assert trouble.begin(107.0) == 7.0
    trouble.end()
    assert not trouble.due
    assert trouble.begin(120.0) == 0.0
