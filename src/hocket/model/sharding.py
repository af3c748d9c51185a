"""How each parameter can be split over the ranks of a tensor-parallel group, as plain data.

Feed-forward and attention follow Megatron-LM (Shoeybi et al., 2019, arXiv:1909.08053): the first
layer by output, the second by input, one sum at the end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from hocket.model.config import ModelConfig

Kind = Literal["column", "row", "head", "channel", "gated_channel", "replicated"]


@dataclass(frozen=True)
class Split:
    """A pattern of parameter names, and what may be done with those parameters.

    ``column``: outputs are split (``dim`` 0). ``row``: inputs are split (``dim`` 1), the outputs are
    summed over the ranks, and the bias is added once. ``head``: outputs in whole heads. ``channel``:
    channels that do not see each other. ``gated_channel``: two halves of channels, value and gate,
    each split by itself. ``replicated``: whole on every rank.
    """

    pattern: str
    kind: Kind
    dim: int | None = None


def table(config: ModelConfig) -> tuple[Split, ...]:
    """The rows for a model; the first whose pattern fits counts.

    The convolution module is split by channels only with frozen batch norm: layer norm needs all
    channels of a frame.
    """
    block = "encoder.layers.*."
    rows = [
        Split(f"{block}feed_forward?.linear1.*", "column", 0),
        Split(f"{block}feed_forward?.linear2.weight", "row", 1),
        Split(f"{block}self_attn.[qkv]_proj.*", "head", 0),
        Split(f"{block}self_attn.relative_k_proj.weight", "head", 0),
        Split(f"{block}self_attn.bias_[uv]", "head", 0),
        Split(f"{block}self_attn.o_proj.weight", "row", 1),
    ]
    if config.conv_norm == "frozen_batch_norm":
        rows += [
            Split(f"{block}conv.pointwise_conv1.*", "gated_channel", 0),
            Split(f"{block}conv.depthwise_conv.*", "channel", 0),
            Split(f"{block}conv.norm.*", "channel", 0),
            Split(f"{block}conv.pointwise_conv2.weight", "row", 1),
        ]
    return (*rows, Split("*", "replicated"))


def split_of(name: str, rows: Iterable[Split]) -> Split:
    """The row for the parameter ``name``."""
    return next(row for row in rows if fnmatchcase(name, row.pattern))


def degrees(config: ModelConfig) -> tuple[int, ...]:
    """Over how many ranks the model can be split: divisors of heads, feed-forward and dropout words.

    A rank's first inner channel is a multiple of 4 then, so that it draws no dropout word in vain.
    """
    most = config.num_heads
    return tuple(n for n in range(1, most + 1) if most % n == 0 and config.ff_size % (4 * n) == 0)
