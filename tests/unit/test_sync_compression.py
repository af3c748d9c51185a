"""What compression leaves out is kept and sent later; bytes are counted; a skipped step leaves no trace."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from hocket.comms.communicator import ThreadedCommunicator, run_threads
from hocket.core.errors import CheckpointError
from hocket.core.protocols import GradBucket
from hocket.model import ModelConfig, build
from hocket.parallel.buckets import make_buckets
from hocket.sync.codecs import OneBit
from hocket.sync.compression import CompressionSettings
from hocket.sync.exchange import Exchange
from replicas import State, apart, course, strategy

LOSSY = [{"name": "one_bit"}, {"name": "top_k", "density": 0.05}, {"name": "power_sgd", "rank": 2}]
SHAPES = [(17, 45), (700,), (9, 1, 11), (64, 33), (3,), (130, 20)]
"""Matrices that fill no group, one, and several; a kernel; vectors."""


def make(settings: Mapping[str, Any], ranks: ThreadedCommunicator, buckets: list[GradBucket]) -> Exchange:
    return TypeAdapter(CompressionSettings).validate_python(settings).make(ranks, buckets)


def buckets_of(shapes: Sequence[tuple[int, ...]], bucket_mb: float) -> list[GradBucket]:
    named = [(f"p{n}", torch.nn.Parameter(torch.zeros(s, dtype=torch.float64))) for n, s in enumerate(shapes)]
    return make_buckets(named, bucket_mb)


def gradient(seed: int, rank: int, size: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1000 * seed + rank)
    return torch.randn(size, generator=draw, dtype=torch.float64)


def flat(buckets: list[GradBucket]) -> torch.Tensor:
    return torch.cat([bucket.flat for bucket in buckets])


def rounds(
    settings: Mapping[str, Any],
    num_ranks: int,
    num_rounds: int,
    *,
    seed: int,
    states: Sequence[State] = (),
    bucket_mb: float = 0.01,
    skipped: bool = False,
    grads: Callable[[int, int, int], torch.Tensor] = gradient,
) -> tuple[torch.Tensor, torch.Tensor, list[State], list[int]]:
    """Sum of gradients given, sum of what was agreed, states by rank and bytes sent by rank."""

    def work(ranks: ThreadedCommunicator) -> tuple[torch.Tensor, torch.Tensor, State, int]:
        buckets = buckets_of(SHAPES, bucket_mb)
        exchange = make(settings, ranks, buckets)
        if states:
            exchange.load_state_dict({n: v.clone() for state in states for n, v in state.items()})
        given, agreed = torch.zeros_like(flat(buckets)), torch.zeros_like(flat(buckets))
        for number in range(num_rounds):
            whole = grads(seed + number, ranks.rank, len(given))
            given += whole / 4
            for bucket, part in zip(buckets, torch.split(whole, [len(b.flat) for b in buckets]), strict=True):
                bucket.flat.copy_(part)
                exchange.start(bucket, 0.25)
            unit = exchange.finish()
            agreed += flat(buckets) * unit
            exchange.settle(torch.tensor(float(skipped)))
        state = {name: value.clone() for name, value in exchange.state_dict().items()}
        return given, agreed, state, ranks.bytes_sent

    found = run_threads(num_ranks, work)
    for other in found[1:]:
        # All ranks agree on the same numbers.
        torch.testing.assert_close(other[1], found[0][1], rtol=0.0, atol=0.0, equal_nan=True)
    return sum(f[0] for f in found), found[0][1], [f[2] for f in found], [f[3] for f in found]  # type: ignore[return-value]


def kept(settings: Mapping[str, Any], states: Sequence[State]) -> torch.Tensor:
    """All that is still to be sent, in the order of the gradients: what one rank takes up, laid open."""

    def work(ranks: ThreadedCommunicator) -> torch.Tensor:
        buckets = buckets_of(SHAPES, 0.01)
        exchange = make(settings, ranks, buckets)
        exchange.load_state_dict({n: v.clone() for state in states for n, v in state.items()})
        for bucket in buckets:
            bucket.flat.zero_()
        for place in getattr(exchange, "_stages", None) or getattr(exchange, "_factors", None) or []:
            whole = place.residual_NS + place.owned_1S if hasattr(place, "owned_1S") else place.residual
            place.staging.drain(whole)
        for place in getattr(exchange, "_kept", []):
            place.bucket.flat.copy_(place.residual)
        return flat(buckets)

    return run_threads(1, work)[0]


@pytest.mark.parametrize("given_settings", LOSSY, ids=lambda s: s["name"])
@settings(max_examples=12, deadline=None)
@given(
    workers=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    bucket_mb=st.lists(st.sampled_from([0.001, 0.01, 4.0]), min_size=3, max_size=3),
    seed=st.integers(0, 10**6),
)
def test_nothing_is_ever_lost_also_when_the_number_of_workers_changes(
    given_settings: Mapping[str, Any], workers: list[int], bucket_mb: list[float], seed: int
) -> None:
    given_sum: Any = 0.0
    agreed_sum: Any = 0.0
    states: list[State] = []
    for phase, num_ranks in enumerate(workers):
        given_now, agreed_now, states, _ = rounds(
            given_settings, num_ranks, 3, seed=seed + 10 * phase, states=states, bucket_mb=bucket_mb[phase]
        )
        given_sum, agreed_sum = given_sum + given_now, agreed_sum + agreed_now
    left = kept(given_settings, states)
    assert float(left.norm()) > 0.1  # there is something to lose
    assert apart(agreed_sum + left, given_sum) < 1e-12


@pytest.mark.parametrize("given_settings", LOSSY, ids=lambda s: s["name"])
def test_the_same_number_of_workers_goes_on_bit_for_bit(given_settings: Mapping[str, Any]) -> None:
    _, whole, _, _ = rounds(given_settings, 3, 4, seed=1)
    _, first, states, _ = rounds(given_settings, 3, 2, seed=1)
    _, rest, _, _ = rounds(given_settings, 3, 2, seed=3, states=states)
    assert apart(first + rest, whole) < 1e-15
    _, without, _, _ = rounds(given_settings, 3, 2, seed=3)
    assert apart(first + without, whole) > 1e-3  # the states do matter


@pytest.mark.parametrize("given_settings", LOSSY, ids=lambda s: s["name"])
def test_a_sum_that_is_thrown_away_leaves_no_trace(given_settings: Mapping[str, Any]) -> None:
    def spoilt(seed: int, rank: int, size: int) -> torch.Tensor:
        whole = gradient(seed, rank, size)
        whole[size // 2] = float("nan") if rank else float("inf")
        return whole

    _, _, before, _ = rounds(given_settings, 2, 2, seed=5)
    _, agreed, after, _ = rounds(given_settings, 2, 1, seed=9, states=before, skipped=True, grads=spoilt)
    assert not agreed.isfinite().all()  # everybody sees it
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        assert all(torch.equal(value, new[name]) for name, value in old.items())


@pytest.mark.parametrize(("name", "bits"), [("bf16", 8), ("fp16", 11)])
@pytest.mark.parametrize("num_ranks", [1, 2, 4])
def test_half_precision_is_near_and_half_the_bytes(name: str, bits: int, num_ranks: int) -> None:
    given_sum, agreed, states, sent = rounds({"name": name}, num_ranks, 1, seed=2, bucket_mb=4.0)
    assert 0 < apart(agreed, given_sum) < 2.0**-bits
    assert states == [{}] * num_ranks
    size = len(given_sum)
    padded = -(-size // num_ranks) * num_ranks
    assert sent == [2 * 2 * padded // num_ranks * (num_ranks - 1)] * num_ranks


@pytest.mark.parametrize("num_ranks", [2, 4])
def test_one_bit_sends_25_times_fewer_bytes_for_matrices_and_20_in_all(num_ranks: int) -> None:
    model = build(ModelConfig.model_validate({"preset": "tiny", "vocab_size": 32}), seed=0)

    def sent(settings: Mapping[str, Any], only_matrices: bool) -> int:
        def work(ranks: ThreadedCommunicator) -> int:
            named = [(n, p) for n, p in model.named_parameters() if p.dim() > 1 or not only_matrices]
            buckets = make_buckets([(n, torch.nn.Parameter(p.detach())) for n, p in named], 4.0)
            exchange = make(settings, ranks, buckets)
            for bucket in buckets:
                exchange.start(bucket, 1.0)
            exchange.finish()
            return ranks.bytes_sent

        return max(run_threads(num_ranks, work))

    for only_matrices, at_least in ((True, 25), (False, 20)):
        assert sent({"name": "none"}, only_matrices) >= at_least * sent({"name": "one_bit"}, only_matrices)


def test_top_k_and_power_sgd_send_what_they_say() -> None:
    size = sum(len(bucket.flat) for bucket in buckets_of(SHAPES, 4.0))
    *_, sent = rounds({"name": "top_k", "density": 0.05}, 3, 1, seed=0, bucket_mb=4.0)
    assert sent == [2 * round(0.05 * size) * (4 + 8)] * 3
    *_, sent = rounds({"name": "power_sgd", "rank": 2}, 2, 1, seed=0, bucket_mb=4.0)
    dense = 700 + 3
    factors = 2 * (17 + 45 + 9 + 11 + 64 + 33 + 130 + 20)
    assert sent == [8 * (dense + factors)] * 2


def test_one_bit_is_the_sign_and_the_mean_magnitude_of_a_group() -> None:
    codec = OneBit(512, torch.device("cpu"), torch.float32)
    values = torch.randn(3, 2048, generator=torch.Generator().manual_seed(0))
    error = values.clone()
    wire = codec.encode(error, torch.full((12,), 512.0))
    assert wire.shape == (3, 2048 // 8 + 2 * 4)
    decoded = torch.empty_like(values)
    codec.decode(wire, decoded)
    assert torch.equal(decoded + error, values) or apart(decoded + error, values) < 1e-7
    assert torch.equal(decoded.signbit(), values.signbit())
    means = values.view(12, 512).abs().mean(1)
    torch.testing.assert_close(decoded.view(12, 512)[:, 0].abs(), means, rtol=2.0**-8, atol=0.0)


def test_a_checkpoint_of_another_way_is_refused() -> None:
    *_, states, _ = rounds({"name": "top_k"}, 2, 1, seed=0)
    with pytest.raises(CheckpointError, match=r"in another way: it lacks 'owned\.\*'"):
        rounds({"name": "one_bit"}, 2, 1, seed=0, states=states)
    with pytest.raises(CheckpointError, match="in another way: it keeps 'residual"):
        rounds({"name": "none"}, 2, 1, seed=0, states=states)


@pytest.mark.parametrize("given_settings", [{"name": "bf16"}, *LOSSY], ids=lambda s: s["name"])
def test_a_step_that_is_not_finite_is_skipped_and_training_goes_on(given_settings: Mapping[str, Any]) -> None:
    def spoil(step: int, batch: Any) -> None:
        if step == 2 and batch.index == 1:
            batch.features_BTF[0, 0, 0] = float("nan")

    settings = strategy("all_reduce", compression=given_settings)
    ranks = course(settings, 2, steps=range(8), max_grad_norm=1.0, spoil=spoil)
    assert [report.skipped for report in ranks[0].reports] == [step == 2 for step in range(8)]
    assert torch.equal(ranks[0].after[1], ranks[0].after[2])
    assert ranks[0].weights.isfinite().all()
    assert torch.equal(ranks[0].weights, ranks[1].weights)


def test_compression_begins_when_it_is_told_to() -> None:
    plain = course(strategy("all_reduce"), 2, steps=range(4))[0]
    late = course(strategy("all_reduce", compression="one_bit", compress_after=3), 2, steps=range(4))[0]
    assert torch.equal(plain.after[2], late.after[2])
    assert not torch.equal(plain.after[3], late.after[3])
    assert late.reports[3].bytes_sent < plain.reports[3].bytes_sent == late.reports[2].bytes_sent
