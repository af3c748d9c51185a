"""Models and micro-batches whose frames are shared out, for tests in threads and in processes."""

from __future__ import annotations

from typing import Any

import torch

from hocket.comms.communicator import Communicator
from hocket.core.work import MicroBatch
from hocket.model import FastConformerCTC, ModelConfig, build
from hocket.parallel.sequence import split_sequence

_MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "long": {"conv_kernel_size": 3, "attention_block": 80},
    "window": {"left_context": 9, "right_context": 4},
    "left": {"left_context": 6},
    "extras": {"num_layers": 3, "intermediate_ctc": [1], "consistency": 0.2},
}
_LENGTHS: dict[str, tuple[list[int], list[int]]] = {
    "odd": ([131, 64, 97], [6, 3, 0]),
    "ends early": ([203, 9], [5, 1]),
    "fewer frames than ranks": ([10], [1]),
}
CASES: tuple[str, ...] = (
    "plain: odd",
    "plain: ends early",
    "plain: fewer frames than ranks",
    "window: odd",
    "window: ends early",
    "left: odd",
    "extras: odd",
)
"""A model, and the lengths of its utterances."""


def model_of(name: str) -> FastConformerCTC:
    """In float64 and training mode: dropout is on."""
    shape = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "ff_size": 24, "conv_kernel_size": 9}
    small = {"subsampling_channels": 4, "vocab_size": 7, "attention_block": 4}
    config = ModelConfig.model_validate({**shape, **small, **_MODELS[name]})
    return build(config, seed=3).double().train()


def batch_of(lens: list[int], num_tokens: list[int], num_views: int = 1) -> MicroBatch:
    """Random features and texts."""
    generator = torch.Generator().manual_seed(0)
    shape = (len(lens) * num_views, max(lens), 80)
    tokens = torch.randint(0, 6, (len(lens), max(num_tokens)), generator=generator)
    return MicroBatch(
        index=0,
        ids=[str(row) for row in range(len(lens))],
        features_BTF=torch.randn(shape, generator=generator, dtype=torch.float64),
        feature_lens_B=torch.tensor(lens),
        tokens_BU=tokens,
        token_lens_B=torch.tensor(num_tokens),
        dropout_key=9,
        num_views=num_views,
    )


def learn(case: str, ranks: Communicator | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and gradient of a case: of the whole, or as one of ``ranks`` finds them."""
    name, _, lengths = case.partition(": ")
    model = model_of(name)
    batch = batch_of(*_LENGTHS[lengths], model.config.num_views)
    if ranks is not None:
        split_sequence(model, ranks)
    loss = model.loss(batch)
    loss.backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return loss.detach(), torch.nn.utils.parameters_to_vector(grads)


def learn_share(case: str, ranks: Communicator) -> tuple[torch.Tensor, torch.Tensor]:
    """What one of ``ranks`` finds."""
    return learn(case, ranks)
