"""What a micro-batch asks of the hardware: operations and bytes by part, as plain data.

Counted for a train step (forward, and twice that backward). Shapes: B utterances, T padded feature
frames, U padded tokens; T' = T / subsampling_factor. A multiply-add counts as two operations.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hocket.core.cost import CostModel
from hocket.model.config import ModelConfig

NOMINAL_FLOPS = 80e9
"""Operations a second of matrix products on one CPU core (fp32), rounded."""
NOMINAL_BYTES = 12e9
"""Bytes a second of element-wise passes on one CPU core, rounded; autograd's overhead is in it."""
NOMINAL_CTC_CELL = 1e-7
"""Seconds of one cell of CTC's trellis (T' x U), forward and backward."""
NOMINAL_LAYER = 1e-3
"""Seconds that a block takes however little there is to do: hundreds of calls."""

_TRAIN = 3
"""Forward, and backward by inputs and by weights."""


@dataclass(frozen=True)
class Polynomial:
    """``constant * B + linear * B * T + square * B * T**2``, over feature frames T."""

    constant: float = 0.0
    linear: float = 0.0
    square: float = 0.0

    def __call__(self, num_utterances: int, num_frames: int) -> float:
        """The value at (B, T)."""
        return num_utterances * (self.constant + num_frames * (self.linear + self.square * num_frames))


@dataclass(frozen=True)
class Part:
    """A part of the model: where it is, and what a train step asks of it.

    ``flops`` of matrix products and convolutions; ``bytes`` that element-wise passes read and write
    (4 a value); ``num_parameters``.
    """

    name: str
    flops: Polynomial
    bytes: Polynomial
    num_parameters: int


def parts(config: ModelConfig, num_frames: int | None = None) -> tuple[Part, ...]:
    """The subsampling, every block by its four modules, and the head, in order.

    For utterances of ``num_frames`` feature frames, or of any length: attention in a limited window is
    square in T' while all scores are computed, and linear once it goes in tiles (see :func:`_seen`).
    """
    rows = [_subsampling(config)]
    for number in range(config.num_layers):
        block = f"encoder.layers.{number}"
        rows.append(_feed_forward(config, f"{block}.feed_forward1"))
        rows.append(_attention(config, f"{block}.self_attn", _seen(config, num_frames)))
        rows += [_convolution(config, f"{block}.conv"), _feed_forward(config, f"{block}.feed_forward2")]
        rows += [
            Part(
                f"{block}.norm_out",
                Polynomial(),
                _values(config, 4 * config.hidden_size),
                2 * config.hidden_size,
            )
        ]
    return (*rows, _head(config))


def cost(config: ModelConfig) -> CostModel:
    """Seconds of a train step's micro-batch at the nominal rates: a function of the configuration.

    The default for cutting work, before anything is measured. Not a forecast: for that, fit.
    """
    table = parts(config)
    constant, linear, square = (
        sum(getattr(p.flops, of) / NOMINAL_FLOPS + getattr(p.bytes, of) / NOMINAL_BYTES for p in table)
        for of in ("constant", "linear", "square")
    )
    return CostModel(
        a0=NOMINAL_LAYER * (config.num_layers + 2),
        a=constant,
        b=linear,
        c=square,
        d=NOMINAL_CTC_CELL / config.subsampling_factor,
    )


def step_flops(config: ModelConfig, trained: Collection[str]) -> Polynomial:
    """Operations of a train step's micro-batch when only the parameters named in ``trained`` are.

    A part of which nothing is trained has no gradients by its weights, and what comes before the first
    part that is trained has no backward pass at all. Views are counted, and the head after each block
    that is learnt from.
    """
    linear = square = 0.0
    below = True
    for part in parts(config):
        learns = any(name == part.name or name.startswith(f"{part.name}.") for name in trained)
        below = below and not learns
        share = 1.0 if learns else (1 / _TRAIN if below else 2 / _TRAIN)
        times = config.num_views * (1 + len(config.intermediate_ctc) if part.name == "ctc_head" else 1)
        linear += times * share * part.flops.linear
        square += times * share * part.flops.square
    return Polynomial(linear=linear, square=square)


def activations(config: ModelConfig) -> Polynomial:
    """About the memory that a micro-batch takes until its backward pass, over (B, T); in no unit.

    Bytes of element-wise passes, which grow with the values that are kept, as these do.
    """
    constant, linear, square = (
        sum(getattr(part.bytes, of) for part in parts(config)) for of in ("constant", "linear", "square")
    )
    return Polynomial(constant, linear, square)


def typical_products(config: ModelConfig) -> tuple[tuple[int, int, int], ...]:
    """Shapes (M, K, N) of the model's largest products, over frames as a micro-batch has them."""
    frames = 1024
    return (frames, config.hidden_size, config.ff_size), (frames, config.ff_size, config.hidden_size)


def _subsampling(config: ModelConfig) -> Part:
    channels, bins = config.subsampling_channels, config.num_mel_bins
    flops, values, num_parameters = 0.0, 0.0, 0
    for stage in range(1, config.num_stages + 1):
        cells = (bins >> stage) / (1 << stage)  # per feature frame
        products = 9 if stage == 1 else 9 + channels
        flops += 2 * cells * channels * products
        values += cells * channels * (4 if stage == 1 else 6)
        num_parameters += channels * 10 + (channels * (channels + 1) if stage > 1 else 0)
    inputs = channels * (bins >> config.num_stages)
    flops += 2 * inputs * config.hidden_size / config.subsampling_factor
    num_parameters += (inputs + 1) * config.hidden_size
    return Part(
        "encoder.subsampling",
        Polynomial(linear=_TRAIN * flops),
        Polynomial(linear=_TRAIN * 4 * values),
        num_parameters,
    )


def _feed_forward(config: ModelConfig, name: str) -> Part:
    hidden, inner = config.hidden_size, config.ff_size
    weights = 2 * hidden * inner
    biases = (hidden + inner) if config.attention_bias else 0
    return Part(
        name,
        _products(config, weights),
        _values(config, 6 * hidden + 4 * inner),
        weights + biases + 2 * hidden,
    )


def _seen(config: ModelConfig, num_frames: int | None) -> int | None:
    """Frames after subsampling whose scores are computed for each frame, whole tiles; None for all T'.

    Of a window limited on both sides, and for utterances that are longer than it and than
    ``blockwise_above``: up to that length all scores are computed, whatever the window. Of utterances of
    any length it tells when tiles begin before the window is full.
    """
    if config.left_context is None or config.right_context is None:
        return None
    block = config.attention_block
    seen = block * (1 - (-config.left_context // block) - (-config.right_context // block))
    length = seen + 1 if num_frames is None else config.subsampled(num_frames)
    return seen if length > max(seen, config.blockwise_above) else None


def _attention(config: ModelConfig, name: str, seen: int | None) -> Part:
    """Scores by content, by distance (2T - 1 of them) and the weighted sum are square in T'.

    With ``seen`` they are that many times T'. The projection of the distances is counted per utterance,
    though it is done once per micro-batch: the cost model has no term for T alone, and B is what it grows
    with elsewhere.
    """
    hidden, heads, factor = config.hidden_size, config.num_heads, config.subsampling_factor
    frame = _products(config, 4 * hidden * hidden).linear
    flops = _pairs(frame, _TRAIN * 2 * 4 * hidden, factor, seen)
    values = _pairs(_values(config, 14 * hidden).linear, _TRAIN * 4 * 4 * heads, factor, seen)
    biases = 4 * hidden if config.attention_bias else 0
    return Part(name, flops, values, 5 * hidden * hidden + 2 * hidden + biases + 2 * hidden)


def _pairs(linear: float, each: float, factor: int, seen: int | None) -> Polynomial:
    """``linear``, and ``each`` for every two frames after subsampling of which one sees the other."""
    if seen is None:
        return Polynomial(linear=linear, square=each / factor**2)
    return Polynomial(linear=linear + each * seen / factor)


def _convolution(config: ModelConfig, name: str) -> Part:
    hidden, kernel = config.hidden_size, config.conv_kernel_size
    matrices = 3 * hidden * hidden
    biases = 4 * hidden if config.conv_bias else 0
    num_parameters = matrices + hidden * kernel + biases + 4 * hidden
    return Part(
        name, _products(config, matrices + hidden * kernel), _values(config, 18 * hidden), num_parameters
    )


def _head(config: ModelConfig) -> Part:
    weights = config.hidden_size * config.vocab_size
    return Part(
        "ctc_head",
        _products(config, weights),
        _values(config, 5 * config.vocab_size),
        weights + config.vocab_size,
    )


def _products(config: ModelConfig, num_weights: float) -> Polynomial:
    """A train step's operations of weights that meet every frame after subsampling once."""
    return Polynomial(linear=_TRAIN * 2 * num_weights / config.subsampling_factor)


def _values(config: ModelConfig, num_values: float) -> Polynomial:
    """A train step's bytes of passes over ``num_values`` values for every frame after subsampling."""
    return Polynomial(linear=_TRAIN * 4 * num_values / config.subsampling_factor)
