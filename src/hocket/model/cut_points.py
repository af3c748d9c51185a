"""Where the model can be cut into stages, and what each piece costs: plain data for ``parallel``."""

from __future__ import annotations

from dataclasses import dataclass

from hocket.model.config import ModelConfig
from hocket.model.workload import NOMINAL_BYTES, NOMINAL_FLOPS, parts


@dataclass(frozen=True)
class Piece:
    """A module that stays whole; a cut may fall before it. ``cost`` is its share of the step."""

    name: str
    cost: float


def pieces(config: ModelConfig, num_frames: int) -> tuple[Piece, ...]:
    """The subsampling, each block, and the head, in order, for utterances of ``num_frames``.

    Costs are shares of a train step at the nominal rates and sum to 1.
    """
    seconds: dict[str, float] = {}
    for part in parts(config):
        piece = ".".join(part.name.split(".")[:3])
        seconds.setdefault(piece, 0.0)
        seconds[piece] += (
            part.flops(1, num_frames) / NOMINAL_FLOPS + part.bytes(1, num_frames) / NOMINAL_BYTES
        )
    total = sum(seconds.values())
    return tuple(Piece(name, value / total) for name, value in seconds.items())
