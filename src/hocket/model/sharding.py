"""How each parameter can be split over the ranks of a tensor-parallel group, as plain data.

Feed-forward, attention and convolution follow Megatron-LM (Shoeybi et al., 2019, arXiv:1909.08053): the
first layer by output, the last by input, one sum at the end. The head is split by tokens.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from hocket.model.config import ModelConfig

Kind = Literal["column", "row", "head", "channel", "gated_channel", "token", "replicated"]


@dataclass(frozen=True)
class Split:
    """A pattern of parameter names, and what may be done with those parameters.

    ``column``: outputs are split (``dim`` 0). ``row``: inputs are split (``dim`` 1), the outputs are
    summed over the ranks, and the bias is added once. ``head``: outputs in whole heads. ``channel``:
    channels that do not see each other, but for a layer norm over all of them. ``gated_channel``: two
    halves of channels, value and gate, each split by itself. ``token``: tokens, as evenly as they come.
    ``replicated``: whole on every rank.
    """

    pattern: str
    kind: Kind
    dim: int | None = None


@dataclass(frozen=True)
class Divisor:
    """A number that the degree of ``tp`` must divide."""

    what: str
    number: int
    multiple: int = 1
    """What is left on a rank must be a multiple of this."""


def table(config: ModelConfig) -> tuple[Split, ...]:
    """The rows for a model; the first whose pattern fits counts."""
    block = "encoder.layers.*."
    return (
        Split(f"{block}feed_forward?.linear1.*", "column", 0),
        Split(f"{block}feed_forward?.linear2.weight", "row", 1),
        Split(f"{block}self_attn.[qkv]_proj.*", "head", 0),
        Split(f"{block}self_attn.relative_k_proj.weight", "head", 0),
        Split(f"{block}self_attn.bias_[uv]", "head", 0),
        Split(f"{block}self_attn.o_proj.weight", "row", 1),
        Split(f"{block}conv.pointwise_conv1.*", "gated_channel", 0),
        Split(f"{block}conv.depthwise_conv.*", "channel", 0),
        Split(f"{block}conv.norm.num_batches_tracked", "replicated"),
        Split(f"{block}conv.norm.*", "channel", 0),
        Split(f"{block}conv.pointwise_conv2.weight", "row", 1),
        Split("ctc_head.*", "token", 0),
        Split("*", "replicated"),
    )


def blocks(config: ModelConfig) -> tuple[str, ...]:
    """Modules that are alike, one after the other: the units of sharding and of recomputation."""
    return tuple(f"encoder.layers.{number}" for number in range(config.num_layers))


FRONT = "encoder.subsampling"
"""What makes hidden frames of features, by maps that are wider than any block."""


def regions(config: ModelConfig) -> tuple[str, ...]:
    """Modules whose input is whole and the same on every rank, and whose parts are split."""
    parts = ("feed_forward1", "self_attn", "conv", "feed_forward2")
    return (*(f"{block}.{part}" for block in blocks(config) for part in parts), "ctc_head")


def divisors(config: ModelConfig) -> tuple[Divisor, ...]:
    """What the degree of ``tp`` must divide: heads, inner channels, hidden channels.

    A rank's inner channels are a multiple of 4, so that it draws no dropout word in vain.
    """
    return (
        Divisor("num_heads", config.num_heads),
        Divisor("ff_size", config.ff_size, 4),
        Divisor("hidden_size", config.hidden_size),
    )


def split_of(name: str, rows: Iterable[Split]) -> Split:
    """The row for the parameter ``name``."""
    return next(row for row in rows if fnmatchcase(name, row.pattern))


def degrees(config: ModelConfig) -> tuple[int, ...]:
    """Over how many ranks the model can be split."""
    return tuple(
        degree
        for degree in range(1, config.num_heads + 1)
        if all(each.number % (each.multiple * degree) == 0 for each in divisors(config))
    )
