"""The acoustic model: padding has no influence, losses are sums, everything is keyed."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from hocket.core.work import MicroBatch
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.model.attention import RelativeAttention
from hocket.model.ctc import ctc_losses, divergence, log_probs
from hocket.model.dropout import DropoutMasks
from hocket.model.feed_forward import FeedForward
from hocket.model.frames import describe
from hocket.model.scores import attend, attend_fused, by_distance
from hocket.model.sharding import split_of, table

CONFIG = ModelConfig(
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    ff_size=48,
    conv_kernel_size=5,
    subsampling_channels=8,
    vocab_size=11,
)


def batch_of(
    lens: list[int], num_frames: int | None = None, dtype: torch.dtype = torch.float32
) -> MicroBatch:
    """Utterance i is the same whatever else is in the batch."""
    num_frames = num_frames or max(lens, default=8)
    features = torch.zeros(len(lens), num_frames, 80, dtype=dtype)
    tokens = torch.full((len(lens), 6), CONFIG.blank)
    for row, n in enumerate(lens):
        generator = torch.Generator().manual_seed(n)
        features[row, :n] = torch.randn(n, 80, generator=generator, dtype=torch.float64)
        tokens[row, : n // 20] = torch.randint(0, CONFIG.blank, (n // 20,), generator=generator)
    token_lens = torch.tensor([n // 20 for n in lens], dtype=torch.long)
    ids = [str(n) for n in lens]
    return MicroBatch(
        0, ids, features, torch.tensor(lens, dtype=torch.long), tokens, token_lens, dropout_key=77
    )


def model_of(**changes: object) -> FastConformerCTC:
    return build(ModelConfig.model_validate({**CONFIG.model_dump(), **changes}), seed=3)


@pytest.mark.parametrize("norm", ["layer_norm", "frozen_batch_norm"])
@pytest.mark.parametrize("factor", [4, 8])
@pytest.mark.parametrize("key", [None, 5])
def test_alone_or_padded_in_a_batch_the_scores_are_the_same(norm: str, factor: int, key: int | None) -> None:
    model = model_of(conv_norm=norm, subsampling_factor=factor).double()
    lens = [61, 97, 8, 40, 1]
    batch = batch_of(lens, num_frames=120, dtype=torch.float64)
    batch.features_BTF[torch.arange(120) >= batch.feature_lens_B[:, None]] = 1e3  # garbage in the padding
    with torch.no_grad():
        together, lens_out = model(batch.features_BTF, batch.feature_lens_B, key)
        for row, n in enumerate(lens):
            rows = slice(row, row + 1)
            if key is not None and row:
                continue  # masks are keyed by row: only the first stays where it is
            alone, _ = model(batch.features_BTF[rows, :n], batch.feature_lens_B[rows], key)
            torch.testing.assert_close(alone[0], together[row, : lens_out[row]], rtol=1e-9, atol=1e-9)


def test_the_loss_is_the_sum_over_utterances() -> None:
    model = model_of().eval().double()
    lens = [60, 97, 45]
    total = model.loss(batch_of(lens, dtype=torch.float64))
    apart = [model.loss(batch_of([n], num_frames=100, dtype=torch.float64)) for n in lens]
    assert total.dtype == torch.float64 and total.dim() == 0
    torch.testing.assert_close(total, torch.stack(apart).sum(), rtol=1e-10, atol=0)


def test_the_loss_is_minus_the_log_of_the_sum_over_all_alignments() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 3, generator=generator)
    probs = logits[0].softmax(-1)
    total = 0.0
    for path in torch.cartesian_prod(*[torch.arange(3)] * 4):
        merged = torch.unique_consecutive(path)
        if merged[merged != 2].tolist() == [0, 1]:
            total += float(probs[torch.arange(4), path].prod())
    loss = ctc_losses(log_probs(logits), torch.tensor([4]), torch.tensor([[0, 1, 2]]), torch.tensor([2]))
    assert float(loss) == pytest.approx(-torch.tensor(total).log().item(), rel=1e-5)


def test_inner_blocks_share_the_loss_through_the_same_head() -> None:
    batch = batch_of([60, 97, 45])
    alone, shared = (
        model_of(num_layers=3),
        model_of(num_layers=3, intermediate_ctc=[1, 2], intermediate_ctc_weight=0.5),
    )
    assert alone.state_dict().keys() == shared.state_dict().keys()
    cut = [model_of(num_layers=number) for number in (1, 2)]  # the same weights: drawn by name
    last, first, second = (model.eval().loss(batch).item() for model in (alone, *cut))
    assert shared.eval().loss(batch).item() == pytest.approx(0.5 * last + 0.25 * (first + second), rel=1e-5)


@pytest.mark.parametrize("blocks", [[2, 1], [1, 1], [0], [3]])
def test_inner_blocks_are_named_in_order_and_end_before_the_last(blocks: list[int]) -> None:
    with pytest.raises(ValueError, match="intermediate_ctc"):
        model_of(num_layers=3, intermediate_ctc=blocks)


def two_views(batch: MicroBatch) -> MicroBatch:
    return replace(batch, num_views=2, features_BTF=batch.features_BTF.repeat(2, 1, 1))


def test_two_views_that_agree_cost_what_one_costs() -> None:
    batch = batch_of([60, 97, 45])
    model = model_of(consistency=0.2).eval()  # no dropout: equal views are equal throughout
    assert model.loss(two_views(batch)).item() == pytest.approx(model.loss(batch).item(), rel=1e-5)


def test_views_that_differ_are_drawn_together() -> None:
    views = two_views(batch_of([60, 97, 45]))
    views.features_BTF[3:, :, 20:40] = 0.0
    plain, drawn = model_of(consistency=1e-9).eval(), model_of(consistency=0.2).eval()
    apart = drawn.loss(views) - plain.loss(views)
    assert apart.item() > 0.0
    optimiser = torch.optim.SGD(drawn.parameters(), lr=1e-3)
    for _ in range(20):
        optimiser.zero_grad()
        hidden, frames = drawn.encoder.after([2], views.features_BTF, views.feature_lens_B.repeat(2))
        told = divergence(log_probs(drawn.ctc_head(hidden[0])), frames.lens_B)
        told.backward()
        optimiser.step()
    assert (0.2 * told).item() < apart.item()


def test_what_lies_in_the_padding_of_a_view_is_no_disagreement() -> None:
    model = model_of(consistency=0.2).eval()
    batch = two_views(batch_of([60, 97, 45], num_frames=120))
    loss = model.loss(batch)
    batch.features_BTF[3:, 97:] = 1e3
    assert model.loss(batch).item() == pytest.approx(loss.item(), rel=1e-5)


def test_a_batch_without_utterances_costs_nothing_and_moves_nothing() -> None:
    model = model_of().train()
    loss = model.loss(batch_of([]))
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad is None for p in model.parameters())


def test_dropout_falls_in_training_alone_and_by_the_key() -> None:
    model, batch = model_of(), batch_of([80, 64])
    model.train()
    first, again = model.loss(batch), model.loss(batch)
    batch.dropout_key += 1
    other = model.loss(batch)
    model.eval()
    quiet = model.loss(batch)
    assert first.item() == again.item()
    assert len({first.item(), other.item(), quiet.item()}) == 3


def test_parameters_are_drawn_by_seed_and_name() -> None:
    state = model_of().state_dict()
    deeper = model_of(num_layers=3).state_dict()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, deeper[name], rtol=0, atol=0)
    other = build(CONFIG, seed=4).state_dict()
    name = "encoder.layers.0.feed_forward1.linear1.weight"
    assert not torch.equal(state[name], other[name])
    assert not torch.equal(state[name], state[name.replace("1.linear1", "2.linear1")])
    assert float(state[name].abs().max()) <= 32**-0.5


def test_autocast_keeps_float32_weights_and_stays_close() -> None:
    model, batch = model_of().train(), batch_of([120, 100])
    exact = model.loss(batch)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.loss(batch)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.dtype == p.grad.dtype == torch.float32 for p in model.parameters())
    assert loss.item() == pytest.approx(exact.item(), rel=0.02)


def test_by_distance_reads_the_product_with_the_distance_of_its_frames() -> None:
    T = 7
    distances = torch.arange(T - 1, -T, -1).expand(2, 3, T, 2 * T - 1).contiguous()
    expected = torch.arange(T)[:, None] - torch.arange(T)
    assert torch.equal(by_distance(distances), expected.expand(2, 3, T, T))
    more_keys = torch.arange(T - 1, -T - 3, -1).expand(2, 3, T, 2 * T + 2).contiguous()
    expected = torch.arange(T)[:, None] - torch.arange(T + 3)
    assert torch.equal(by_distance(more_keys), expected.expand(2, 3, T, T + 3))


@pytest.mark.parametrize("num_frames", [1, 2, 9, 20])
def test_both_ways_to_attend_agree_with_each_other_and_in_their_gradients(num_frames: int) -> None:
    H, B, T, E = 2, 3, num_frames, 4
    torch.manual_seed(1)
    shapes = [(H, B, T, E)] * 4 + [(H, 2 * T - 1, E)]
    lens = torch.tensor([T, (T + 1) // 2, 1])
    bias = torch.where(torch.arange(T) < lens[:, None], 0.0, -1e9).double()[:, None]
    weight = torch.randn(H, B, T, E, dtype=torch.float64)
    results = []
    values = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    for function in (attend, attend_fused):
        leaves = [value.clone().requires_grad_() for value in values]
        out = function(*leaves, bias)
        (out * weight).sum().backward()
        results.append([out, *(leaf.grad for leaf in leaves)])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def cut(tensor: torch.Tensor, dim: int | None, rank: int, degree: int) -> torch.Tensor:
    return tensor if dim is None else tensor.chunk(degree, dim)[rank]


@pytest.mark.parametrize("degree", [2, 4])
def test_ranks_that_hold_a_split_add_up_to_the_whole(degree: int) -> None:
    """Feed-forward by channels and attention by heads, as the table says, dropout included."""
    torch.manual_seed(0)
    rows = table(CONFIG)
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    frames = describe(torch.tensor([9, 6]), x, DropoutMasks(8, 2, 9))
    for part, module in (
        ("feed_forward1", FeedForward(CONFIG, "site")),
        ("self_attn", RelativeAttention(CONFIG)),
    ):
        module = module.double()
        for name, parameter in module.named_parameters():
            parameter.data.normal_()
            if name.endswith(("linear2.bias", "o_proj.bias")):
                parameter.data.zero_()  # added once, by whoever sums
        whole, total = module(x, frames), torch.zeros_like(x)
        for rank in range(degree):
            local = {}
            for name, parameter in module.named_parameters():
                split = split_of(f"encoder.layers.0.{part}.{name}", rows)
                local[name] = cut(parameter.data, split.dim, rank, degree)
            piece = type(module)(CONFIG, *(["site"] if part != "self_attn" else [])).double()
            if isinstance(piece, FeedForward):
                piece.first_channel = rank * CONFIG.ff_size // degree
            total += torch.func.functional_call(piece, local, (x, frames), strict=False)
        torch.testing.assert_close(total, whole, rtol=1e-10, atol=1e-10)


def test_it_learns_eight_random_utterances_by_heart() -> None:
    torch.manual_seed(0)
    model, batch = (
        model_of(dropout=0.0, ff_dropout=0.0, input_dropout=0.0).train(),
        batch_of([60, 64, 70, 72, 80, 81, 90, 99]),
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = float(model.loss(batch).detach())
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 50.0)
        optimizer.step()
    assert float(loss.detach()) < 0.02 * first
    logits, _ = model(batch.features_BTF, batch.feature_lens_B)
    best = F.log_softmax(logits, -1).argmax(-1)
    for row, count in enumerate(batch.token_lens_B):
        tokens = torch.unique_consecutive(best[row, : CONFIG.subsampled(int(batch.feature_lens_B[row]))])
        assert tokens[tokens != CONFIG.blank].tolist() == batch.tokens_BU[row, :count].tolist()
