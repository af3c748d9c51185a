"""Where the model can be cut into stages, and what each piece costs: plain data for ``parallel``."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.model.config import ModelConfig
from hocket.model.sharding import FRONT
from hocket.model.workload import NOMINAL_BYTES, NOMINAL_FLOPS, parts


@dataclass(frozen=True)
class Piece:
    """A module that stays whole; a cut may fall before it. ``cost`` is its share of the step."""

    name: str
    cost: float


def piece_names(config: ModelConfig) -> tuple[str, ...]:
    """The subsampling, each block, and the head, in order."""
    blocks = (f"encoder.layers.{number}" for number in range(config.num_layers))
    return FRONT, *blocks, "ctc_head"


def pieces(config: ModelConfig, num_frames: int) -> tuple[Piece, ...]:
    """All pieces in order, for utterances of ``num_frames`` feature frames.

    Costs are shares of a train step at the nominal rates and sum to 1. The head is run once more for each
    inner block that is learnt from.
    """
    seconds = dict.fromkeys(piece_names(config), 0.0)
    for part in parts(config, num_frames):
        piece = ".".join(part.name.split(".")[:3])
        times = 1 + len(config.intermediate_ctc) if piece == "ctc_head" else 1
        seconds[piece] += times * (
            part.flops(1, num_frames) / NOMINAL_FLOPS + part.bytes(1, num_frames) / NOMINAL_BYTES
        )
    total = sum(seconds.values())
    return tuple(Piece(name, value / total) for name, value in seconds.items())
