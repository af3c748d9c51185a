"""What a micro-batch asks of a device, by piece of the model and by kind of work.

Each kind is a count to which some rate belongs: operations, values that are read and written, kernels that
are started. The counts follow from shapes alone; how long one of each takes is for
:mod:`hocket.planning.rates`, measured or from a catalogue. A share of the model (``tp``), of the frames
(``sp``) or some pieces of it (``pp``) have counts of their own.

Legend: B rows (utterances times views), T' frames after subsampling, D hidden channels, P distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.model.config import ModelConfig

F64 = npt.NDArray[np.float64]

KINDS = (
    "products",
    "uneven_products",
    "operands",
    "scores",
    "table",
    "tiled_scores",
    "tiles",
    "near_values",
    "far_values",
    "convolutions",
    "maps",
    "weights",
    "vocabulary",
    "trellis",
    "steps_of_trellis",
    "blocks",
    "micro_batch",
)
"""Kinds of work, in the order of the vectors.

``products``: operations of matrix products with weights (a multiply-add is two); ``uneven_products``: those
that are computed in vain where kernels take 64 channels at a time, and there are fewer; ``operands``: values
that products read and write; ``scores``: operations of attention's products without weights; ``table``:
scores, where all of them are made; ``tiled_scores``, ``tiles``: the same operations, and how many tiles,
where attention is computed in tiles; ``near_values``, ``far_values``: values of element-wise passes over
tensors that fit a core's caches, and that do not; ``convolutions``: operations of convolutions that are no
products; ``maps``: values of the subsampling's maps; ``weights``: parameters that are cast, and whose
gradients are collected; ``vocabulary``: values of the head's scores; ``trellis``: cells of CTC;
``steps_of_trellis``: frames of CTC that are gone through one after the other, where ranks share the frames;
``blocks``, ``micro_batch``: how often one is begun.
"""

NEAR_BYTES, FAR_BYTES = 2**20, 2**25
"""A tensor of so many bytes is near to a core, or far from it; between them it is partly both."""

_KERNEL_CHANNELS = 64
_PASSES_WHOLE, _PASSES_INNER, _PASSES_SHARED = 36, 12, 20
"""Values read and written by a block's forward pass: for each hidden, each inner and each split channel."""


@dataclass(frozen=True)
class Shape:
    """A micro-batch: rows, padded feature frames, padded tokens."""

    num_rows: int
    num_frames: int
    num_tokens: int


@dataclass(frozen=True)
class Cut:
    """The share of a model and of its frames that a rank computes."""

    tp: int = 1
    sp: int = 1


WHOLE = Cut()


def piece_demand(config: ModelConfig, piece: int, shape: Shape, cut: Cut = WHOLE) -> F64:
    """Counts by :data:`KINDS` of a forward pass through one piece.

    Pieces are numbered as in :func:`hocket.model.cut_points.piece_names`: the subsampling, the blocks, the
    head. A backward pass has the same counts at rates of its own.
    """
    if piece == 0:
        found = _subsampling(config, shape, cut)
    elif piece <= config.num_layers:
        found = _block(config, shape, cut)
    else:
        found = _head(config, shape, cut)
    return np.array([found.get(kind, 0.0) for kind in KINDS])


def demand(config: ModelConfig, shape: Shape, cut: Cut = WHOLE) -> F64:
    """Counts of a forward pass through the whole model."""
    first, last = piece_demand(config, 0, shape, cut), piece_demand(config, config.num_pieces - 1, shape, cut)
    return first + config.num_layers * piece_demand(config, 1, shape, cut) + last


def piece_parameters(config: ModelConfig, piece: int, tp: int = 1) -> int:
    """Parameters of a piece that a rank of ``tp`` holds: what is split, and what every rank has."""
    hidden, inner = config.hidden_size, config.ff_size
    bias, conv_bias = int(config.attention_bias), int(config.conv_bias)
    if piece == 0:
        channels, bins = config.subsampling_channels, config.num_mel_bins >> config.num_stages
        further = config.num_stages - 1
        return channels * 10 + further * channels * (10 + channels + 1) + (channels * bins + 1) * hidden
    if piece > config.num_layers:
        return -(-config.vocab_size // tp) * (hidden + 1)
    split = 2 * (2 * hidden * inner + bias * inner)  # feed-forward
    split += 5 * hidden * hidden + 3 * bias * hidden + 2 * hidden  # attention
    split += 3 * hidden * hidden + hidden * config.conv_kernel_size + conv_bias * 3 * hidden + 2 * hidden
    copied = 5 * 2 * hidden + 2 * bias * hidden + bias * hidden + conv_bias * hidden
    return split // tp + copied


def _block(config: ModelConfig, shape: Shape, cut: Cut) -> dict[str, float]:
    hidden, inner, channels = config.hidden_size, config.ff_size // cut.tp, config.hidden_size // cut.tp
    keys = config.subsampled(shape.num_frames)
    queries = -(-keys // cut.sp)
    rows = shape.num_rows
    frames = rows * queries
    weights = 2 * 2 * hidden * inner + 7 * hidden * channels
    distances = queries + keys - 1
    whole, shared, between = _even(hidden), _even(channels), _even(inner)
    in_vain = 2 * 2 * whole * between + 7 * whole * shared - weights
    counts = {
        "products": 2.0 * frames * weights + 2.0 * distances * hidden * channels,
        "uneven_products": 2.0 * frames * in_vain,
        "operands": 2.0 * frames * (hidden + inner) + frames * (4 * hidden + 7 * channels) + weights,
        "convolutions": 2.0 * frames * channels * config.conv_kernel_size,
        "weights": float(piece_parameters(config, 1, cut.tp)),
        "blocks": 1.0,
    }
    passes = frames * (_PASSES_WHOLE * hidden + _PASSES_INNER * 2 * inner + _PASSES_SHARED * channels)
    far = _share_far(4 * frames * hidden)
    counts |= {"near_values": passes * (1 - far), "far_values": passes * far}
    if cut.sp > 1 or keys > config.blockwise_above:
        side, seen = config.attention_block, _seen(config, keys)
        counts["tiled_scores"] = 2.0 * rows * queries * channels * 4 * seen
        counts["tiles"] = float(-(-queries // side)) * cut.sp * -(-seen // (side * cut.sp))
    else:
        counts["scores"] = 2.0 * rows * queries * channels * (2 * keys + distances)
        counts["table"] = float(rows * queries * (keys + distances) * config.num_heads // cut.tp)
    return counts


def _even(channels: int) -> int:
    """Channels as kernels compute them."""
    return -(-channels // _KERNEL_CHANNELS) * _KERNEL_CHANNELS


def _seen(config: ModelConfig, keys: int) -> int:
    """Frames that a frame attends to, at most."""
    if config.left_context is None or config.right_context is None:
        return keys
    return min(keys, config.left_context + config.right_context + 1)


def _subsampling(config: ModelConfig, shape: Shape, cut: Cut) -> dict[str, float]:
    channels, bins = config.subsampling_channels, config.num_mel_bins
    frames = shape.num_rows * config.subsampled(shape.num_frames) / cut.sp
    convolved = maps = mixed = 0.0
    for stage in range(1, config.num_stages + 1):
        cells = frames * (config.subsampling_factor >> stage) * (bins >> stage) * channels
        convolved += 2.0 * 9 * cells
        maps += cells
        mixed += 2.0 * cells * channels if stage > 1 else 0.0
    width = channels * (bins >> config.num_stages)
    return {
        "products": mixed + 2.0 * frames * width * config.hidden_size,
        "operands": frames * (width + config.hidden_size) + width * config.hidden_size,
        "convolutions": convolved,
        "maps": maps,
        "weights": float(piece_parameters(config, 0)),
        "micro_batch": 1.0,
    }


def _head(config: ModelConfig, shape: Shape, cut: Cut) -> dict[str, float]:
    tokens = config.vocab_size / cut.tp
    frames = shape.num_rows * config.subsampled(shape.num_frames) / cut.sp
    times = 1 + len(config.intermediate_ctc)
    found = {
        "products": times * 2.0 * frames * config.hidden_size * tokens,
        "operands": times * (frames * (config.hidden_size + tokens) + config.hidden_size * tokens),
        "vocabulary": times * frames * tokens,
        "weights": float(piece_parameters(config, config.num_pieces - 1, cut.tp)),
    }
    if cut.sp > 1:
        found["steps_of_trellis"] = times * config.subsampled(shape.num_frames) / cut.sp
    else:
        found["trellis"] = times * frames * (2.0 * shape.num_tokens + 1)
    return found


def _share_far(num_bytes: float) -> float:
    """0 for a tensor that is near, 1 for one that is far, by the logarithm of its size between them."""
    return min(1.0, max(0.0, math.log(max(num_bytes, 1) / NEAR_BYTES) / math.log(FAR_BYTES / NEAR_BYTES)))
