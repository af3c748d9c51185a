"""The gradient noise scale: against brute force, over numbers of workers, and what it costs the training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hocket.batching import assign
from hocket.comms.communicator import Alone, ThreadedCommunicator, run_threads
from hocket.core.protocols import RankPart
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.parallel.whole import WholeReplica
from hocket.sync.all_reduce import AllReduce
from hocket.training.noise_scale import Estimate, NoiseScale, advice, estimate
from hocket.training.probing import Probe
from replicas import Net

UTTERANCES, UNITS, PER_UNIT = 200, 8, 3
CPU = torch.device("cpu")


def utterance(number: int) -> tuple[torch.Tensor, int]:
    """Features (T, 24) and their number of tokens."""
    draw = torch.Generator().manual_seed(number)
    length = 3 + number % 10
    level = 0.6 + 0.8 * float(torch.rand((), generator=draw))
    return level * torch.randn(length, 24, generator=draw), length


def micro_batch(numbers: list[int], index: int = 0) -> MicroBatch:
    """Padded with zeros, which the loss of this model does see; what is needed is a sum over utterances."""
    drawn = [utterance(number) for number in numbers]
    features = torch.nn.utils.rnn.pad_sequence([x for x, _ in drawn], batch_first=True)
    tokens = torch.tensor([num for _, num in drawn])
    return MicroBatch(index, [str(n) for n in numbers], features, tokens, tokens[:, None], tokens)


def step_of(seed: int) -> list[list[int]]:
    """Random samples, with replacement."""
    return np.random.default_rng(seed).integers(0, UTTERANCES, (UNITS, PER_UNIT)).tolist()  # type: ignore[no-any-return]


def global_batch(units: list[list[int]]) -> GlobalBatch:
    specs = []
    for index, numbers in enumerate(units):
        rows, tokens = np.asarray(numbers), sum(utterance(number)[1] for number in numbers)
        specs.append(MicroBatchSpec(index, rows, rows, 12, 12, tokens, tokens, float(tokens)))
    return GlobalBatch(0, 0, tuple(specs), probe=True)


class Apart(Net):
    """Sums over utterances one by one, so that padding has no say."""

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        losses = []
        for position, length in enumerate(batch.feature_lens_B.tolist()):
            own = micro_batch([int(batch.ids[position])])
            assert own.features_BTF.shape[1] == length
            losses.append(super().loss(own))
        return torch.stack(losses).sum()


def measured(units: list[list[int]], num_ranks: int) -> tuple[Estimate, torch.Tensor]:
    """A probe step's estimate and the gradient that came of it, on ``num_ranks`` replicas."""
    batch = global_batch(units)

    def work(ranks: ThreadedCommunicator) -> tuple[Estimate, torch.Tensor]:
        model = Apart()
        replica = WholeReplica(model, CPU, precision="fp32", bucket_mb=0.005)
        sync = AllReduce(ranks, max_grad_norm=0.0)
        sync.attach(replica)
        mine = assign([spec.cost for spec in batch.micro_batches], ranks.world_size)[ranks.rank]
        loaded = [micro_batch(units[position], position) for position in mine]
        probe = Probe(replica, loaded)
        sync.begin_step(batch, settle=False)
        results = replica.forward_backward(loaded, on_micro_batch=probe.add_up)
        probe.fill()
        for bucket in replica.buckets:
            sync.on_grad_ready(bucket)
        report = sync.step(torch.optim.SGD(model.parameters(), lr=0.0, fused=True), RankPart(results))
        num, weights, squares = probe.send(ranks).result()
        found = estimate(num, weights, squares, report.result().grad_norm, batch.total_tokens)
        return found, torch.cat([bucket.flat.clone() for bucket in replica.buckets])

    return run_threads(num_ranks, work)[0]


def test_it_is_that_of_brute_force() -> None:
    model = Apart()
    replica = WholeReplica(model, CPU, precision="fp32", bucket_mb=1.0)
    gradients, tokens = [], []
    for number in range(UTTERANCES):
        replica.forward_backward([micro_batch([number])])
        gradients.append(torch.cat([bucket.flat.clone() for bucket in replica.buckets]).double())
        tokens.append(utterance(number)[1])
    per_utterance, num_tokens = torch.stack(gradients), torch.tensor(tokens, dtype=torch.float64)
    mean = per_utterance.sum(0) / num_tokens.sum()
    noise = float((per_utterance - num_tokens[:, None] * mean).square().sum(1).mean() / num_tokens.mean())
    signal = float(mean.square().sum())

    found = [measured(step_of(seed), 1)[0] for seed in range(30)]
    assert np.mean([each.noise for each in found]) == pytest.approx(noise, rel=0.1)
    assert np.mean([each.signal for each in found]) == pytest.approx(signal, rel=0.1)
    # And the scale of a run, smoothed as it goes along.
    scale = NoiseScale()
    for each in found:
        scale.add(each, 180, 30, 1)
    assert scale.num_tokens == pytest.approx(noise / signal, rel=0.2)


def test_it_does_not_depend_on_workers() -> None:
    units = step_of(1000)
    alone = measured(units, 1)[0]
    for num_ranks in (2, 3, 9):  # nine: one has no work
        found = measured(units, num_ranks)[0]
        assert found.noise == pytest.approx(alone.noise, rel=1e-6)
        assert found.signal == pytest.approx(alone.signal, rel=1e-6)


def test_a_probe_step_learns_what_it_would_unobserved() -> None:
    units = step_of(5)
    replica = WholeReplica(Apart(), CPU, precision="fp32", bucket_mb=0.005)
    sync = AllReduce(Alone(), max_grad_norm=0.0)
    sync.attach(replica)
    sync.begin_step(global_batch(units), settle=False)
    loaded = [micro_batch(numbers, index) for index, numbers in enumerate(units)]
    results = replica.forward_backward(loaded, on_bucket=sync.on_grad_ready)
    sync.step(torch.optim.SGD(replica.model.parameters(), lr=0.0, fused=True), RankPart(results))
    unobserved = torch.cat([bucket.flat for bucket in replica.buckets])
    assert torch.equal(measured(units, 1)[1], unobserved)


def test_the_advice_is_that_of_the_paper() -> None:
    at_scale = advice(120.0, 120.0, 8)
    assert at_scale["data_efficiency"] == at_scale["step_efficiency"] == pytest.approx(0.5)
    assert at_scale["max_workers"] == 8
    small = advice(120.0, 30.0, 2)
    assert small["data_efficiency"] == pytest.approx(0.8)
    assert small["max_workers"] == 8  # of micro-batches of 15 s


def test_a_gradient_lost_in_its_noise_gives_no_advice() -> None:
    scale = NoiseScale()
    scale.add(Estimate(noise=10.0, signal=-0.1), 10, 30, 1)
    assert scale.told(30.0, 2, 0.01) == {"noise_seconds": None, "num_probes": 1}
    scale.add(Estimate(noise=10.0, signal=3.0), 10, 30, 1)
    told = scale.told(30.0, 2, 0.01)
    assert told["noise_seconds"] == pytest.approx(told["noise_tokens"] * 0.03)
    assert told["noise_utterances"] == pytest.approx(told["noise_tokens"] / 10)


def test_steps_count_alike_whatever_the_size_of_their_gradients() -> None:
    scales = [NoiseScale(), NoiseScale()]
    for number in range(20):
        for scale, size in zip(scales, (1.0, 1000.0 if number < 3 else 1.0), strict=True):
            scale.add(Estimate(noise=size * (5.0 + number), signal=size), 100, 300, 30)
    assert scales[0].num_tokens == pytest.approx(scales[1].num_tokens)
