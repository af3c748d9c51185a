"""What a worker holds while it recognises: the model, and the fullest moment of a forward pass.

Nothing is kept for a backward pass, so that what counts is one place: the subsampling's first map, the
scores of one block's attention, its inner channels, or the scores of the head. Counted is the storage of
tensors, from the same sizes as training's (:mod:`hocket.planning.activations`); a test holds the counts to
what a forward pass really needs.
"""

from __future__ import annotations

from dataclasses import dataclass

from hocket.model.config import ModelConfig
from hocket.parallel.precision import Precision
from hocket.planning.activations import Sizes, features, first_map, is_tiled
from hocket.planning.demand import WHOLE, Shape, piece_parameters
from hocket.planning.recognizing.rates import Way


@dataclass(frozen=True)
class WorkerMemory:
    """Bytes of one worker at its fullest moment."""

    parameters: float
    passing: float
    """Features and what the forward pass needs at once."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.parameters + self.passing


def worker_memory(config: ModelConfig, way: Way, rows: int, frames: int) -> WorkerMemory:
    """Of a worker whose largest micro-batch is of ``rows`` utterances padded to ``frames``."""
    held = sum(_parameter_bytes(config, way, piece) for piece in range(config.num_pieces))
    shape = Shape(rows, frames, 0)
    precision: Precision = "bf16" if way.precision == "bf16" else "fp32"
    of, hidden = Sizes.of(config, precision, shape, WHOLE), config.hidden_size
    wide = float(of.element * of.frames)
    tiled = way.backend == "torch" and is_tiled(config, of.keys, WHOLE)
    attention = wide * hidden * 9
    if not tiled:  # by distance (two tables), by content, and weights; under autocast softmax is in float32
        attention += of.table * (4 if precision == "fp32" else 6)
    inner = wide * (2 * of.inner + 3 * hidden)
    head = wide * hidden + 8.0 * of.frames * of.tokens
    subsampling = first_map(config, shape, WHOLE) * (1 + _SECOND_MAP) + features(config, shape, WHOLE)
    passing = features(config, shape, WHOLE) + max(attention, inner, head, subsampling)
    return WorkerMemory(held, passing)


_SECOND_MAP = 1 / 4
"""Values of the second map, of those of the first: half the frames, half the bins."""


def _parameter_bytes(config: ModelConfig, way: Way, piece: int) -> float:
    """int8 holds the products of the blocks as bytes, and hardly anything else is in a block."""
    number = piece_parameters(config, piece)
    inside = 0 < piece <= config.num_layers
    return float(number * (1 if way.precision == "int8" and inside else 4))
