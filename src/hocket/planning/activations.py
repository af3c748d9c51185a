"""What a forward pass keeps for its backward pass, and what that needs for a moment: bytes, by piece.

The counts are of tensors, one by one, as :func:`hocket.parallel.recompute.kept_bytes` finds them; a test
holds them to what it finds. Under bfloat16 copies of weights are kept as well.

Legend: N rows times frames here, S frames of the whole, D hidden channels, d those of this rank, P distances.
"""

from __future__ import annotations

from dataclasses import dataclass

from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.demand import Cut, Shape

ELEMENT: dict[Precision, int] = {"fp32": 4, "bf16": 2}
"""Bytes of an activation's value."""

_WHOLE_VALUES, _SHARED_VALUES, _TILED_VALUES, _INNER_VALUES = 9, 12, 11, 4
"""Kept values of a block: for each of N * D, of N * d (with a table of scores or in tiles), and of N * inner
channels."""
_WHOLE_MASKS, _INNER_MASKS = 4, 2
"""Bytes of dropout's masks, likewise."""
_NORM_BYTES, _SPLIT_NORM_BYTES = 48, 44
"""Of N: means and spreads of six norms."""
_AFTER_ATTENTION = 5 + 2 / 4, 6, 2 + 1 / 4
"""Of these values (N * D, N * d, N * inner) what is let go of before attention's backward pass comes."""
_TABLES: dict[Precision, float] = {"fp32": 4.0, "bf16": 5.4}
_GRADIENTS = 6.7
"""Tables of scores, and values of N * D, that attention's backward pass needs for a moment."""


@dataclass(frozen=True)
class Sizes:
    """A micro-batch as a rank sees it."""

    frames: int
    """N."""
    here: int
    keys: int
    """S."""
    rows: int
    channels: int
    """d."""
    inner: int
    heads: int
    tokens: int
    element: int

    @staticmethod
    def of(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> Sizes:
        """Of a share of the model and of the frames."""
        keys = config.subsampled(shape.num_frames)
        here = -(-keys // cut.sp)
        return Sizes(
            frames=shape.num_rows * here,
            here=here,
            keys=keys,
            rows=shape.num_rows,
            channels=config.hidden_size // cut.tp,
            inner=config.ff_size // cut.tp,
            heads=config.num_heads // cut.tp,
            tokens=-(-config.vocab_size // cut.tp),
            element=ELEMENT[precision],
        )

    @property
    def table(self) -> float:
        """Bytes of all scores."""
        return float(self.element * self.rows * self.heads * self.here * self.keys)


def kept_by_block(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> float:
    """Bytes of one block."""
    of, hidden, narrow = Sizes.of(config, precision, shape, cut), config.hidden_size, precision == "bf16"
    tiled = is_tiled(config, of.keys, cut)
    values = _WHOLE_VALUES * hidden + _INNER_VALUES * of.inner
    values += (_TILED_VALUES if tiled else _SHARED_VALUES) * of.channels
    total = of.frames * (of.element * values + _WHOLE_MASKS * hidden + _INNER_MASKS * of.inner)
    total += of.frames * (_NORM_BYTES if cut.tp == 1 else _SPLIT_NORM_BYTES)
    if narrow:  # copies of all weights; a norm that is split over ranks is kept as float32
        total += 14 * hidden * of.channels + 8 * hidden * of.inner
        total += 2 * of.channels * config.conv_kernel_size + 2 * of.frames * of.channels * (cut.tp > 1)
    else:  # the weights of queries, keys and values as one
        total += 12 * hidden * of.channels
    if tiled:
        return float(total + 4 * of.frames * of.heads)
    return total + of.table + of.element * (2 * of.keys - 1) * of.channels


def kept_input(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> float:
    """Bytes of a block's input: what is kept where the block is computed again."""
    of = Sizes.of(config, precision, shape, cut)
    return float(of.element * of.frames * config.hidden_size)


def kept_by_subsampling(
    config: ModelConfig, precision: Precision, shape: Shape, cut: Cut, *, again: bool = False
) -> float:
    """Bytes of the subsampling, unless it runs ``again``, of positions, and of the dropout after it."""
    of, channels = Sizes.of(config, precision, shape, cut), config.subsampling_channels
    after = of.element * (of.here + of.keys - 1 + of.frames) * config.hidden_size
    if again:
        return after
    maps = first_map(config, shape, cut)
    for stage in range(2, config.num_stages + 1):
        cells = of.frames * (config.subsampling_factor >> stage) * (config.num_mel_bins >> stage)
        maps += 2.0 * of.element * cells * channels
        if precision == "bf16" and stage < config.num_stages:  # widened for the next convolution
            maps += 4.0 * cells * channels
    width = channels * (config.num_mel_bins >> config.num_stages)
    copies = of.element * width * config.hidden_size
    if precision == "bf16":
        copies += 2 * channels**2 * (config.num_stages - 1)
    return maps + features(config, shape, cut) + copies + after


def kept_by_head(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> float:
    """Bytes of the head and the loss, for all places that are learnt from."""
    of = Sizes.of(config, precision, shape, cut)
    kept = of.frames * (4 * of.tokens + of.element * config.hidden_size)
    if precision == "bf16":
        kept += 2 * config.hidden_size * of.tokens
    if cut.sp == 1 and cut.tp == 1:
        kept += 4 * of.frames * (2 * shape.num_tokens + 1)
    elif cut.tp > 1:
        kept += 4 * of.frames * (2 * shape.num_tokens + 2)
    return float((1 + len(config.intermediate_ctc)) * kept)


def passing_head(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> float:
    """Bytes that the head's backward pass needs for a moment: three times its scores."""
    of = Sizes.of(config, precision, shape, cut)
    return 12.0 * of.frames * of.tokens


def passing_block(config: ModelConfig, precision: Precision, shape: Shape, cut: Cut) -> float:
    """Bytes of the last block's backward pass, beyond all that the forward pass keeps.

    At the inner channels of its second feed-forward, or at its attention, when what comes after that is let
    go of already.
    """
    of, hidden = Sizes.of(config, precision, shape, cut), config.hidden_size
    inner = of.element * of.frames * (2.0 * of.inner - 1.5 * hidden)
    gone = _AFTER_ATTENTION
    freed = of.element * of.frames * (gone[0] * hidden + gone[1] * of.channels + gone[2] * of.inner)
    attention = _GRADIENTS * of.element * of.frames * hidden - freed
    if is_tiled(config, of.keys, cut):
        side = config.attention_block
        attention += 6.0 * 4 * of.rows * of.heads * side * min(side, of.keys) + 8.0 * of.frames * of.channels
    else:
        attention += _TABLES[precision] * of.table
    return max(inner, attention, 0.0)


def fullest_subsampling(config: ModelConfig, shape: Shape, cut: Cut) -> float:
    """Bytes at the end of the backward pass, when nothing else is left: the first map, and two gradients."""
    return 3 * first_map(config, shape, cut) + features(config, shape, cut)


def first_map(config: ModelConfig, shape: Shape, cut: Cut) -> float:
    """Bytes of what the first convolution gives, always in float32."""
    here = -(-config.subsampled(shape.num_frames) // cut.sp) * (config.subsampling_factor // 2)
    return 4.0 * shape.num_rows * here * (config.num_mel_bins // 2) * config.subsampling_channels


def features(config: ModelConfig, shape: Shape, cut: Cut) -> float:
    """Bytes of the features, without their padding."""
    here = -(-config.subsampled(shape.num_frames) // cut.sp) * config.subsampling_factor
    return 4.0 * shape.num_rows * here * config.num_mel_bins


def is_tiled(config: ModelConfig, keys: int, cut: Cut) -> bool:
    """True where no table of scores is made."""
    return cut.sp > 1 or keys > config.blockwise_above
