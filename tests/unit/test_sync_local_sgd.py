"""Local SGD: replicas alone within a round, together after it, with every outer optimiser."""

from typing import Any

import pytest
import torch

from hocket.core.errors import CheckpointError
from replicas import Net, apart, course, strategy

NUM_PARAMETERS = sum(parameter.numel() for parameter in Net().parameters())


def start() -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(Net().double().parameters()).detach()


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_replicas_part_within_a_round_and_meet_in_their_mean(num_ranks: int) -> None:
    ranks = course(strategy("local_sgd", sync_every=4), num_ranks, steps=range(8))
    for found in ranks:
        assert found.consistent == [False, False, False, True] * 2
        assert torch.equal(found.weights, ranks[0].weights)
    # The same replicas, had they never met: until the fourth step they are where these were.
    apart_still = course(strategy("local_sgd", sync_every=8), num_ranks, steps=range(4), num_steps=8)
    mean = torch.stack([found.weights for found in apart_still]).mean(0)
    assert apart(ranks[0].after[3], mean) < 1e-12
    assert apart(apart_still[0].weights, apart_still[1].weights) > 1e-4


def test_the_last_step_of_the_run_ends_its_round() -> None:
    ranks = course(strategy("local_sgd", sync_every=4), 2, steps=range(6))
    assert ranks[0].consistent == [False, False, False, True, False, True]
    assert torch.equal(ranks[0].weights, ranks[1].weights)


def test_reports_come_at_the_end_of_the_round_and_are_all_ranks_own() -> None:
    ranks = course(strategy("local_sgd", sync_every=3), 2, steps=range(6))
    plain = course(strategy("all_reduce"), 2, steps=range(6))
    assert ranks[0].ready == [0, 0, 3, 3, 3, 6]
    assert plain[0].ready == [1, 2, 3, 4, 5, 6]
    assert ranks[0].reports[0].loss_sum == pytest.approx(plain[0].reports[0].loss_sum, rel=1e-12)
    for step, report in enumerate(ranks[0].reports):
        assert report.utterances == 2 * step
        assert report.busy_seconds == ((3.0, 3.0) if step % 3 == 2 else (0.0, 0.0))
        assert report == ranks[1].reports[step] or report.loss_sum == ranks[1].reports[step].loss_sum


def test_only_the_end_of_a_round_sends() -> None:
    ranks = course(strategy("local_sgd", sync_every=4), 2, steps=range(8))
    facts = 8 * (4 * 5 + 1 + 2)
    expected = [0, 0, 0, 8 * NUM_PARAMETERS + facts] * 2
    assert [report.bytes_sent for report in ranks[0].reports] == expected


@pytest.mark.parametrize(
    "outer", [{"name": "bmuf", "block_momentum": 0.0}, {"name": "nesterov", "lr": 1.0, "momentum": 0.0}]
)
def test_without_momentum_every_outer_optimiser_is_the_average(outer: dict[str, Any]) -> None:
    average = course(strategy("local_sgd", sync_every=4), 2, steps=range(12))[0]
    other = course(strategy("local_sgd", sync_every=4, outer=outer), 2, steps=range(12))[0]
    assert apart(other.weights, average.weights) < 1e-12


def pseudogradients(settings: Any, rounds: int, sync_every: int, outer: Any) -> torch.Tensor:
    """Weights after several rounds, from means of replicas and the outer rule written out."""
    weights, memory = start(), torch.zeros_like(start())
    for number in range(rounds):
        steps = range(number * sync_every, (number + 1) * sync_every)
        alone = course(settings, 2, steps=steps, num_steps=10**6, weights=weights)
        mean = torch.stack([found.weights for found in alone]).mean(0)
        weights, memory = outer(weights, memory, weights - mean)
    return weights


def test_block_momentum_is_that_of_bmuf() -> None:
    def bmuf(w: torch.Tensor, v: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        v = 0.6 * v - 0.8 * g  # the paper's: of the way there, not of the gradient
        return w + v, v

    expected = pseudogradients(strategy("local_sgd", sync_every=10**5), 4, 3, bmuf)
    outer = {"name": "bmuf", "block_momentum": 0.6, "block_lr": 0.8}
    found = course(strategy("local_sgd", sync_every=3, outer=outer), 2, steps=range(12))[0]
    assert apart(found.weights, expected) < 1e-12


def test_block_momentum_is_by_default_the_papers_for_the_number_of_workers() -> None:
    for num_ranks, momentum in ((1, 0.0), (2, 0.5), (4, 0.75)):
        outer = {"name": "bmuf", "block_momentum": momentum}
        told = course(strategy("local_sgd", sync_every=3, outer=outer), num_ranks, steps=range(9))[0]
        default = course(strategy("local_sgd", sync_every=3, outer="bmuf"), num_ranks, steps=range(9))[0]
        assert torch.equal(told.weights, default.weights)


def test_nesterov_is_that_of_torch() -> None:
    parameter = torch.nn.Parameter(start())
    sgd = torch.optim.SGD([parameter], lr=0.7, momentum=0.9, nesterov=True)

    def step(w: torch.Tensor, v: torch.Tensor, g: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        parameter.grad = g.clone()
        sgd.step()
        return parameter.detach().clone(), v

    expected = pseudogradients(strategy("local_sgd", sync_every=10**5), 4, 3, step)
    found = course(strategy("local_sgd", sync_every=3, outer="nesterov"), 2, steps=range(12))[0]
    assert apart(found.weights, expected) < 1e-12


@pytest.mark.parametrize("overlap", [1, 2, 4])
@pytest.mark.parametrize("compression", ["none", "one_bit", "power_sgd"])
def test_with_overlap_no_ones_steps_are_lost(overlap: int, compression: str) -> None:
    settings = strategy("local_sgd", sync_every=4, overlap_steps=overlap, compression=compression)
    ranks = course(settings, 2, steps=range(16), settle_at=[10, 11])
    assert ranks[0].consistent == [step in (11, 15) for step in range(16)]
    for step in (11, 15):
        assert torch.equal(ranks[0].after[step], ranks[1].after[step])
    assert not torch.equal(ranks[0].after[3], ranks[1].after[3])  # nobody waits at the end of the first round
    assert ranks[0].ready[3] == 0
    assert ranks[0].ready[3 + overlap] == 4


def test_with_overlap_the_mean_way_of_all_steps_is_gone() -> None:
    for overlap in (0, 1, 3, 4):
        settings = strategy("local_sgd", sync_every=4, overlap_steps=overlap)
        ranks = course(settings, 2, steps=range(16))
        mean_way = torch.stack([found.stepped for found in ranks]).mean(0)
        assert apart(ranks[0].weights - start(), mean_way) < 1e-12
        assert not torch.equal(ranks[0].stepped, ranks[1].stepped)


@pytest.mark.parametrize("outer", ["average", "bmuf", "nesterov"])
@pytest.mark.parametrize("compression", ["none", "one_bit", {"name": "top_k", "density": 0.1}])
def test_a_run_goes_on_from_a_consistent_point_as_if_nothing_had_been(outer: str, compression: Any) -> None:
    settings = strategy("local_sgd", sync_every=3, outer=outer, compression=compression)
    whole = course(settings, 2, steps=range(12))
    first = course(settings, 2, steps=range(6), num_steps=12)
    states = [found.sync_state for found in first]
    rest = course(settings, 2, steps=range(6, 12), weights=first[0].weights, states=states)
    assert torch.equal(rest[0].weights, whole[0].weights)
    if states != [{}, {}]:
        without = course(settings, 2, steps=range(6, 12), weights=first[0].weights)
        assert not torch.equal(without[0].weights, whole[0].weights)


def test_the_outer_momentum_goes_on_with_any_number_of_workers() -> None:
    settings = strategy("local_sgd", sync_every=3, outer="nesterov")
    first = course(settings, 2, steps=range(6), num_steps=9)
    states = [found.sync_state for found in first]
    rest = course(settings, 3, steps=range(6, 9), weights=first[0].weights, states=states, bucket_mb=4.0)
    again = course(settings, 3, steps=range(6, 9), weights=first[0].weights, states=states)
    assert apart(rest[0].weights, again[0].weights) < 1e-12
    assert all(torch.equal(found.weights, rest[0].weights) for found in rest)
    with pytest.raises(CheckpointError, match="in another way"):
        course(strategy("local_sgd"), 2, steps=range(6, 9), states=states)


def test_a_replica_skips_what_is_not_finite_and_the_others_go_on() -> None:
    def spoil(step: int, batch: Any) -> None:
        if step == 1 and batch.index == 1:
            batch.features_BTF[0, 0, 0] = float("inf")

    ranks = course(strategy("local_sgd", sync_every=4), 2, steps=range(8), spoil=spoil)
    assert [report.skipped for report in ranks[0].reports] == [step == 1 for step in range(8)]
    stood = [torch.equal(found.after[0], found.after[1]) for found in ranks]
    assert sorted(stood) == [False, True]
    assert ranks[0].weights.isfinite().all()


def test_a_replica_without_work_stands_still_and_counts() -> None:
    ranks = course(strategy("local_sgd", sync_every=1), 4, steps=range(5), num_micro_batches=2)
    alone = course(strategy("all_reduce"), 1, steps=range(5), num_micro_batches=2)
    assert apart(ranks[0].weights, alone[0].weights) < 1e-12


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap_steps is at most sync_every"):
        strategy("local_sgd", sync_every=4, overlap_steps=5)
