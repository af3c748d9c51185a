"""The plan of batches: every utterance once an epoch, nothing carried over, costs that match."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.batching import assign, cut_by_budget, imbalance
from hocket.batching.cut import cut_pool
from hocket.batching.order import EpochOrder, block_starts
from hocket.core import seeds
from hocket.core.cost import CostModel
from hocket.core.errors import CorpusError
from plans import columns, make_plan, rows_of_epoch


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 700),
    block_size=st.integers(1, 90),
    per_step=st.integers(1, 9),
    pool_steps=st.integers(1, 9),
    seconds=st.floats(5, 400),
    epoch=st.integers(0, 3),
)
def test_an_epoch_is_a_permutation_of_the_corpus(
    count: int, block_size: int, per_step: int, pool_steps: int, seconds: float, epoch: int
) -> None:
    utterances = columns(count, seed=count, block_size=block_size)
    plan = make_plan(utterances, micro_batches_per_step=per_step, pool_steps=pool_steps, seconds=seconds)
    assert sorted(rows_of_epoch(plan, epoch)) == list(range(count))


def test_every_step_has_the_same_number_of_micro_batches() -> None:
    plan = make_plan(columns(500))
    for step in range(plan.steps_per_epoch):
        assert len(plan.global_batch(step).micro_batches) == 4


def test_a_step_does_not_depend_on_those_asked_for_before() -> None:
    utterances = columns(900)
    walked, jumped = make_plan(utterances), make_plan(utterances)
    last = 2 * walked.steps_per_epoch - 1
    for step in range(last):
        walked.global_batch(step)
    ours, theirs = walked.global_batch(last), jumped.global_batch(last)
    assert ours.epoch == theirs.epoch == 1
    for a, b in zip(ours.micro_batches, theirs.micro_batches, strict=True):
        assert np.array_equal(a.rows, b.rows) and np.array_equal(a.speed_percent, b.speed_percent)


def test_epochs_and_seeds_differ() -> None:
    utterances = columns(400)
    plan = make_plan(utterances)
    assert rows_of_epoch(plan, 0) != rows_of_epoch(plan, 1)
    assert rows_of_epoch(plan, 0) != rows_of_epoch(make_plan(utterances, seed=1), 0)


def test_speed_is_drawn_before_cutting_so_padded_lengths_are_right() -> None:
    utterances = columns(300)
    plan = make_plan(utterances)
    seen = set()
    for step in range(plan.steps_per_epoch):
        for spec in plan.global_batch(step).micro_batches:
            samples = -(-utterances.num_samples[spec.rows] * 100 // spec.speed_percent)
            assert spec.num_frames == -(-(samples // 160).max() // 8) * 8
            assert spec.num_tokens == utterances.num_tokens[spec.rows].max()
            assert spec.total_frames == (samples // 160).sum()
            seen.update(spec.speed_percent.tolist())
    assert seen == {90, 100, 110}


@pytest.mark.parametrize(
    ("count", "mean_seconds", "per_step", "step_seconds", "most_padding"),
    [(20_000, 11.0, 8, 1600.0, 0.01), (20_000, 11.0, 4, 400.0, 0.012), (948, 2.7, 4, 60.0, 0.03)],
)
def test_ranks_of_any_degree_finish_together_and_little_is_padding(
    count: int, mean_seconds: float, per_step: int, step_seconds: float, most_padding: float
) -> None:
    plan = make_plan(
        columns(count, mean_seconds=mean_seconds),
        seconds=step_seconds,
        micro_batches_per_step=per_step,
        pool_steps=32,
    )
    real = padded = 0
    slowest: dict[int, list[float]] = {ranks: [] for ranks in (2, 4, 8) if ranks <= per_step}
    for step in range(plan.steps_per_epoch):
        batch = plan.global_batch(step)
        costs = [spec.cost for spec in batch.micro_batches]
        for ranks, found in slowest.items():
            found.append(imbalance(costs, assign(costs, ranks)))
        real, padded = real + batch.total_frames, padded + batch.padded_frames
    assert 1 - real / padded < most_padding
    for ranks, found in slowest.items():
        assert np.mean(found) < 1.003, ranks
        assert np.quantile(found, 0.95) < 1.01, ranks


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=80),
    num_steps=st.integers(1, 4),
    per_step=st.integers(1, 5),
)
def test_odd_pools_are_cut_whole(lengths: list[int], num_steps: int, per_step: int) -> None:
    """Lengths of nothing, all equal, fewer than micro-batches: no utterance lost, none without need."""
    frames = np.array(lengths, np.int64)
    free = CostModel(a0=1.0, a=0.0, b=1e-5, c=0.0)
    keys = np.arange(len(frames), dtype=np.uint64)
    parts = cut_pool(frames, frames // 7, keys, free, num_steps, per_step, salt=1)
    assert len(parts) == num_steps * per_step
    assert sorted(np.concatenate(parts)) == list(range(len(frames)))
    if len(frames) >= len(parts):
        assert min(len(part) for part in parts) > 0
    longest = [frames[part].max() for part in parts if len(part)]
    assert longest == sorted(longest, reverse=True)


def test_steps_mix_lengths() -> None:
    plan = make_plan(columns(5000), seconds=800.0, micro_batches_per_step=8, pool_steps=16)
    spreads = []
    for step in range(plan.steps_per_epoch):
        frames = [spec.num_frames for spec in plan.global_batch(step).micro_batches]
        spreads.append(max(frames) / min(frames))
    assert np.median(spreads) > 1.5


@pytest.mark.parametrize("count", [100, 350, 360, 2000])
def test_a_step_holds_the_seconds_asked_for(count: int) -> None:
    """Also where the steps of an epoch are no multiple of a pool's: 1.4 and 1.5 pools here."""
    plan = make_plan(columns(count), seconds=300.0)
    sizes = [plan.global_batch(step).total_frames / 100 for step in range(plan.steps_per_epoch)]
    assert np.mean(sizes) == pytest.approx(300.0, rel=0.08)


def test_the_digest_tells_who_was_learnt_from() -> None:
    utterances = columns(300)
    plan = make_plan(utterances)
    batch = plan.global_batch(3)
    keys = [int(utterances.key[row]) & 0xFFFFFFFF for spec in batch.micro_batches for row in spec.rows]
    assert plan.digest(batch) == sum(keys)
    assert plan.digest(batch) != plan.digest(plan.global_batch(4))


def test_the_fingerprint_names_what_decides_the_batches() -> None:
    utterances = columns(100)
    base = make_plan(utterances).fingerprint("corpus")
    assert make_plan(utterances).fingerprint("corpus") == base
    assert make_plan(utterances).fingerprint("another") != base
    assert make_plan(utterances, seed=1).fingerprint("corpus") != base
    assert make_plan(utterances, seconds=100.0).fingerprint("corpus") != base


def test_a_corpus_smaller_than_a_step_leaves_micro_batches_empty_not_utterances_out() -> None:
    plan = make_plan(columns(3), micro_batches_per_step=8)
    assert sorted(rows_of_epoch(plan, 0)) == [0, 1, 2]


def test_an_empty_corpus_is_an_error() -> None:
    with pytest.raises(CorpusError, match="empty"):
        make_plan(columns(0))


def test_a_pool_touches_few_blocks() -> None:
    utterances = columns(10_000, block_size=100)
    order = EpochOrder(block_starts(utterances.block), utterances.key, seed=0, epoch=0)
    blocks = np.unique(utterances.block[order.rows(4321, 5321)])
    assert len(blocks) <= 12
    assert not np.array_equal(blocks, np.arange(blocks[0], blocks[0] + len(blocks)))


def test_randomness_is_spread() -> None:
    order = EpochOrder(block_starts(columns(4096, block_size=64).block), columns(4096).key, seed=5, epoch=2)
    rows = order.rows(0, 4096)
    assert abs(np.corrcoef(rows, np.arange(4096))[0, 1]) < 0.3  # 64 blocks: sigma is 1/8


def test_uniform_draws_are_uniform() -> None:
    draws = seeds.uniform(seeds.key("test"), np.arange(100_000, dtype=np.uint64))
    counts, _ = np.histogram(draws, bins=50, range=(0, 1))
    assert ((counts - 2000) ** 2 / 2000).sum() < 90  # chi-square with 49 degrees, p > 0.0003


@given(
    costs=st.lists(st.floats(0.01, 10), min_size=0, max_size=40),
    num_ranks=st.integers(1, 9),
)
def test_assign_gives_every_micro_batch_to_one_rank(costs: list[float], num_ranks: int) -> None:
    shares = assign(costs, num_ranks)
    assert len(shares) == num_ranks
    assert sorted(position for share in shares for position in share) == list(range(len(costs)))


def test_assign_balances_equal_costs_and_follows_speeds() -> None:
    assert [len(share) for share in assign([1.0] * 12, 4)] == [3, 3, 3, 3]
    assert [len(share) for share in assign([1.0] * 12, 3, speeds=[1.0, 1.0, 2.0])] == [3, 3, 6]
    assert imbalance([1.0] * 4, assign([1.0] * 4, 3)) == pytest.approx(1.5)


def test_the_slowest_rank_trades_with_others() -> None:
    """Largest first alone would give 3 + 2 + 2 and 3 + 2."""
    costs = [3.0, 3.0, 2.0, 2.0, 2.0]
    assert imbalance(costs, assign(costs, 2)) == 1.0
    shares = assign(costs, 2, speeds=[1.0, 3.0])
    assert [sum(costs[place] for place in share) for share in shares] == [3.0, 9.0]


@given(
    costs=st.lists(st.floats(0.1, 10), max_size=40),
    speeds=st.lists(st.sampled_from([1.0, 1.5, 2.0]), min_size=1, max_size=7),
)
def test_trading_never_makes_a_step_slower(costs: list[float], speeds: list[float]) -> None:
    load = [0.0] * len(speeds)
    for cost in sorted(costs, reverse=True):
        rank = min(range(len(speeds)), key=lambda r: (load[r] + cost) / speeds[r])
        load[rank] += cost
    shares = assign(costs, len(speeds), speeds=speeds)
    ours = max(
        sum(costs[place] for place in share) / speed for share, speed in zip(shares, speeds, strict=True)
    )
    theirs = max(one / speed for one, speed in zip(load, speeds, strict=True))
    assert ours <= theirs * (1 + 1e-9)


def test_trading_evens_out_ranks_of_several_micro_batches() -> None:
    """Four micro-batches a rank, a few per cent apart, as steps of a small corpus have them."""
    draw = np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(10):
        costs = (1 + 0.06 * draw.random(64) ** 3).tolist()
        ours.append(imbalance(costs, assign(costs, 16)) - 1)
        load = [0.0] * 16
        for cost in sorted(costs, reverse=True):
            load[load.index(min(load))] += cost
        theirs.append(max(load) / np.mean(load) - 1)
    assert np.mean(ours) < 0.7 * np.mean(theirs)


def test_more_ranks_than_micro_batches_leaves_some_without_work() -> None:
    assert assign([1.0, 2.0], 4) == [[1], [0], [], []]


def test_assign_refuses_speeds_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="speeds"):
        assign([1.0], 2, speeds=[1.0])


@given(frames=st.lists(st.integers(0, 3000), max_size=60), budget=st.integers(1, 6000))
def test_cutting_by_budget_keeps_all_and_the_budget(frames: list[int], budget: int) -> None:
    parts = cut_by_budget(frames, budget)
    assert sorted(int(p) for part in parts for p in part) == list(range(len(frames)))
    for part in parts:
        longest = max(frames[p] for p in part)
        assert len(part) == 1 or longest * len(part) <= budget
    firsts = [frames[part[0]] for part in parts]
    assert firsts == sorted(firsts, reverse=True)
