"""Long audio in one process: attention in tiles, limited context, CTC with checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from hocket.core.errors import UsageError
from hocket.core.work import MicroBatch
from hocket.model import FastConformerCTC, ModelConfig, build, ctc_long, hf
from hocket.model.attention import RelativeAttention
from hocket.model.ctc import ctc_losses
from hocket.model.frames import Context, describe
from hocket.model.time import WholeTime

CONFIG = ModelConfig(
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    ff_size=24,
    conv_kernel_size=5,
    subsampling_channels=4,
    vocab_size=7,
    blockwise_above=0,
    attention_block=4,
)


def attention(context: Context, num_frames: int, dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    """Output of attention over three utterances, where it counts, and all gradients."""
    module = RelativeAttention(CONFIG).to(dtype)
    generator = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator).to(dtype) / 4
    x = torch.randn(3, num_frames, 16, generator=generator).to(dtype).requires_grad_()
    lens = torch.tensor([num_frames, (num_frames + 2) // 3, 1])
    frames = describe(lens, x.detach(), None, context=context)
    out = module(x, frames) * frames.valid_BT1
    (out * torch.randn(out.shape, generator=generator).to(dtype)).sum().backward()
    found = [out.detach(), x.grad, *(parameter.grad for parameter in module.parameters())]
    assert all(isinstance(each, torch.Tensor) and each.isfinite().all() for each in found)
    return [each.to(torch.float64) for each in found if each is not None]


@pytest.mark.parametrize("num_frames, block", [(1, 4), (4, 4), (7, 1), (11, 4), (32, 5)])
@pytest.mark.parametrize("reach", [(None, None), (3, 2), (0, 0), (6, None), (None, 0)])
def test_tiles_give_what_the_table_of_scores_gives(
    num_frames: int, block: int, reach: tuple[int | None, int | None]
) -> None:
    tiles = attention(Context(*reach, block=block, blockwise_above=0), num_frames)
    table = attention(Context(*reach, blockwise_above=num_frames), num_frames)
    for mine, theirs in zip(tiles, table, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


def test_tiles_in_bf16_are_as_close_as_the_table_is() -> None:
    exact = attention(Context(), 40)
    far = []
    for context in (Context(), Context(block=8, blockwise_above=0)):
        found = attention(context, 40, torch.bfloat16)
        far.append(
            max(
                float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True) if b.norm() > 1e-6
            )
        )
    table, tiles = far
    assert tiles < 1.5 * table < 0.15


@pytest.mark.parametrize("reach", [(3, 2), (0, 0), (5, None), (None, 1)])
@pytest.mark.parametrize("blockwise_above", [0, 1000])
def test_a_frame_hears_its_window_and_nothing_else(
    reach: tuple[int | None, int | None], blockwise_above: int
) -> None:
    """One attention alone: more layers, and convolutions, reach further."""
    left, right = reach
    context = Context(left, right, block=4, blockwise_above=blockwise_above)
    module = RelativeAttention(CONFIG).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    num_frames, asked = 21, 10
    x = torch.randn(1, num_frames, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x.requires_grad_()
    frames = describe(torch.tensor([num_frames]), x.detach(), None, context=context)
    module(x, frames)[0, asked].sum().backward()
    assert x.grad is not None
    heard = (x.grad[0].abs().sum(-1) > 0).nonzero().flatten().tolist()
    first = 0 if left is None else asked - left
    last = num_frames - 1 if right is None else asked + right
    assert heard == list(range(first, last + 1))


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The most values of a tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else [out]:
            if isinstance(each, torch.Tensor):
                self.numel = max(self.numel, each.untyped_storage().nbytes() // each.element_size())
        return out


def test_no_tensor_has_the_size_of_frames_by_frames() -> None:
    num_frames = 200
    x = torch.randn(1, num_frames, CONFIG.hidden_size)
    module = RelativeAttention(CONFIG)
    for above, small in ((0, True), (num_frames, False)):
        frames = describe(
            torch.tensor([num_frames]), x, None, context=Context(block=40, blockwise_above=above)
        )
        with _Largest() as largest:
            module(x, frames).sum().backward()
        assert (largest.numel < num_frames * num_frames // 3) == small


def test_a_limited_context_does_not_fit_the_format_of_hugging_face(tmp_path: Path) -> None:
    model = model_of(left_context=8, conv_norm="frozen_batch_norm")
    with pytest.raises(UsageError, match="left_context: 8"):
        hf.save(tmp_path, model)


def model_of(**changes: object) -> FastConformerCTC:
    return build(ModelConfig.model_validate({**CONFIG.model_dump(), **changes}), seed=3).double().train()


def batch_of(lens: list[int], num_tokens: list[int]) -> MicroBatch:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(lens), max(lens), 80, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, CONFIG.blank, (len(lens), max(num_tokens)), generator=generator)
    ids = [str(row) for row in range(len(lens))]
    return MicroBatch(0, ids, features, torch.tensor(lens), tokens, torch.tensor(num_tokens), dropout_key=9)


@pytest.mark.parametrize("reach", [(None, None), (5, 3)])
def test_a_model_learns_the_same_in_tiles(reach: tuple[int | None, int | None]) -> None:
    """Loss and gradients with dropout on; the threshold alone decides."""
    batch, found = batch_of([131, 64, 9], [6, 3, 1]), []
    for above in (0, 1000):
        model = model_of(left_context=reach[0], right_context=reach[1], blockwise_above=above)
        loss = model.loss(batch)
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((loss.detach(), grads))
    (tiles, tiled_grads), (table, table_grads) = found
    torch.testing.assert_close(tiles, table, rtol=1e-12, atol=0)
    assert float((tiled_grads - table_grads).norm() / table_grads.norm()) < 1e-10


@pytest.mark.parametrize("num_tokens", [[9, 4, 0, 1, 2], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
def test_ctc_with_checkpoints_is_ctc(num_tokens: list[int]) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 30, 4, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, 3, (5, max(num_tokens)), generator=generator)
    lens, token_lens = torch.tensor([30, 23, 7, 2, 30]), torch.tensor(num_tokens)
    weights = torch.randn(5, generator=generator, dtype=torch.float64)
    found = []
    for way in ("checkpoints", "torch"):
        x = logits.clone().requires_grad_()
        log_probs = F.log_softmax(x, -1)
        if way == "torch":
            losses = F.ctc_loss(log_probs.transpose(0, 1), tokens, lens, token_lens, 3, reduction="none")
        else:
            losses = ctc_long.long_ctc_losses(log_probs, lens, tokens, token_lens, WholeTime(30))
        (losses * weights).sum().backward()
        found.append((losses.detach(), x.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-11)


def test_a_text_without_alignment_costs_infinitely_much() -> None:
    """Two equal tokens need a blank between them: three frames."""
    log_probs = F.log_softmax(torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1)), -1)
    tokens, token_lens = torch.tensor([[0, 0, 1], [0, 0, 0]]), torch.tensor([3, 3])
    losses = ctc_long.long_ctc_losses(log_probs, torch.tensor([4, 4]), tokens, token_lens, WholeTime(4))
    assert losses.isfinite().tolist() == [True, False]


def test_long_texts_over_long_time_keep_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is chosen by frames times states, and keeps the root of the frames."""
    log_probs = F.log_softmax(torch.zeros(1, 2400, 4, dtype=torch.float64, requires_grad=True), -1)
    tokens, lens = torch.arange(900)[None] % 3, torch.tensor([2400])
    kept: list[int] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        kept.append(x.numel())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = ctc_losses(log_probs, lens, tokens, torch.tensor([900]))
    assert sum(kept) - log_probs.numel() < 2400 * 1801 // 30
    monkeypatch.setattr(ctc_long, "LONG_CELLS", 1 << 40)
    torch.testing.assert_close(loss, ctc_losses(log_probs, lens, tokens, torch.tensor([900])))
