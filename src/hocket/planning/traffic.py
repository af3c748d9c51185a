"""What ranks send each other in a step, by axis: from the layout, the strategy and the shapes.

Legend: B rows, T' frames here, D hidden channels, P parameters of a rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from hocket.core.layout import Layout
from hocket.model.config import ModelConfig
from hocket.planning.demand import Shape
from hocket.planning.fabric import Operation
from hocket.sync.all_reduce import AllReduceSettings
from hocket.sync.compression import NoCompression, OneBitSgd, PowerSgd, TopK
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.settings import SyncBase

VALUE = 4
"""Bytes of a parameter, a gradient, and of what is summed over ranks."""

_CTC_STATE = 8
"""Bytes of a number that ranks hand on while they go through CTC's trellis."""


@dataclass(frozen=True)
class Message:
    """An operation that the ranks along an axis take part in, some times."""

    axis: str
    operation: Operation
    num_bytes: float
    """Of one: see :class:`~hocket.planning.fabric.Fabric`."""
    times: float = 1.0

    def sent(self, degree: int) -> float:
        """Bytes that a rank puts on the wire for it, over all times."""
        if degree < 2:
            return 0.0
        share = {
            "all_reduce": 2 * (degree - 1) / degree,
            "reduce_scatter": (degree - 1) / degree,
            "all_gather": degree - 1.0,
            "all_to_all": 1.0,
            "p2p": 1.0,
        }[self.operation]
        return share * self.num_bytes * self.times


@dataclass(frozen=True)
class InPasses:
    """Messages that hold up a forward and a backward pass of a piece: what follows needs them."""

    forward: tuple[Message, ...] = ()
    backward: tuple[Message, ...] = ()


def num_gathers(layout: Layout, passes: float) -> float:
    """How often ranks of ``dp_shard`` gather their parameters in a step of so many micro-batches a group."""
    return 2 * passes if layout.reshard == "block" else 1.0


def in_block(config: ModelConfig, layout: Layout, shape: Shape, element: int) -> InPasses:
    """Of one block; ``element`` bytes of an activation's value (2 in bf16)."""
    frames = _frames_here(config, layout, shape)
    forward: list[Message] = []
    backward: list[Message] = []
    if layout.tp > 1:
        hidden = Message("tp", "all_reduce", VALUE * shape.num_rows * frames * config.hidden_size, 4)
        forward.append(hidden)
        backward.append(hidden)
        if config.conv_norm == "layer_norm":
            pair = VALUE * 2 * shape.num_rows * frames
            forward.append(Message("tp", "all_gather", pair))
            backward.append(Message("tp", "all_reduce", pair))
    if layout.sp > 1:
        channels = config.hidden_size // layout.tp
        reach = min(config.conv_kernel_size // 2, frames)
        halo = Message("sp", "p2p", 2 * element * shape.num_rows * reach * channels)
        keys = 2 * element * shape.num_rows * frames * channels
        if config.left_context is not None and config.right_context is not None:
            window = min(config.left_context + config.right_context, (layout.sp - 1) * frames)
            near = Message("sp", "p2p", 2 * element * shape.num_rows * window * channels)
            forward += [halo, near]
            backward += [halo, near]
        else:
            forward += [halo, Message("sp", "p2p", keys, layout.sp - 1)]
            grads = 2 * VALUE * shape.num_rows * frames * channels
            backward += [
                halo,
                Message("sp", "p2p", keys, layout.sp - 1),
                Message("sp", "p2p", grads, layout.sp),
            ]
    return InPasses(tuple(forward), tuple(backward))


def in_head(config: ModelConfig, layout: Layout, shape: Shape) -> InPasses:
    """Of the head and the loss, once for each place that is learnt from."""
    times = 1 + len(config.intermediate_ctc)
    frames = _frames_here(config, layout, shape)
    forward: list[Message] = []
    backward: list[Message] = []
    if layout.tp > 1:
        cells = VALUE * shape.num_rows * frames
        forward.append(Message("tp", "all_gather", 2 * cells, times))
        forward.append(Message("tp", "all_reduce", cells * (shape.num_tokens + 1), times))
        backward.append(Message("tp", "all_reduce", cells, times))
        backward.append(Message("tp", "all_reduce", cells * config.hidden_size, times))
    if layout.sp > 1:
        states = _CTC_STATE * shape.num_rows * (2 * shape.num_tokens + 1)
        forward.append(Message("sp", "p2p", states, times * layout.sp))
        backward.append(Message("sp", "p2p", states, times * (layout.sp - 1)))
    return InPasses(tuple(forward), tuple(backward))


def handed_on(config: ModelConfig, layout: Layout, shape: Shape, element: int) -> float:
    """Bytes that one stage of a pipeline hands to the next for a micro-batch."""
    frames = _frames_here(config, layout, shape)
    return element * shape.num_rows * frames * config.hidden_size * (1 + len(config.intermediate_ctc))


def agreeing(sync: SyncBase, num_parameters: float, num_replicas: int) -> Iterator[Message]:
    """How replicas agree on so many parameters: one agreement, whenever it is due."""
    compression = getattr(sync, "compression", NoCompression())
    num_bytes = VALUE * num_parameters
    axis = "dp_replicate"
    if isinstance(compression, NoCompression):
        yield Message(axis, "all_reduce", num_bytes)
    elif isinstance(compression, TopK):
        yield Message(axis, "all_gather", 2 * num_bytes * compression.density)
    elif isinstance(compression, PowerSgd):
        yield Message(axis, "all_reduce", num_bytes * _power_sgd_share(num_parameters, compression.rank))
    else:
        share = (1 + 16 / compression.group) / 32 if isinstance(compression, OneBitSgd) else 0.5
        yield Message(axis, "all_to_all", num_bytes * share * (num_replicas - 1) / num_replicas)
        yield Message(axis, "all_gather", num_bytes * share / num_replicas)


def agreements_per_step(sync: SyncBase) -> float:
    """How often replicas agree: 1 is after every step."""
    return 1.0 / sync.sync_every if isinstance(sync, LocalSgdSettings) else 1.0


def overlaps(sync: SyncBase) -> bool:
    """True where replicas go on computing while they agree."""
    if isinstance(sync, LocalSgdSettings):
        return sync.overlap_steps > 0
    return isinstance(sync, AllReduceSettings)


def _power_sgd_share(num_parameters: float, rank: int) -> float:
    """Numbers of two thin factors over those of a square matrix, taken at the size of a typical one."""
    side = max(1.0, math.sqrt(num_parameters / 60))
    return min(1.0, 2 * rank / side)


def _frames_here(config: ModelConfig, layout: Layout, shape: Shape) -> int:
    return -(-config.subsampled(shape.num_frames) // layout.sp)
