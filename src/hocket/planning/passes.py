"""Seconds of one micro-batch on one rank: what it computes, and what it waits for on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from hocket.core.layout import Layout
from hocket.model.cut_points import pieces
from hocket.parallel.pipeline import CHUNKS, TYPICAL_FRAMES
from hocket.parallel.pipeline_balance import balance
from hocket.parallel.precision import Precision
from hocket.planning import traffic
from hocket.planning.activations import ELEMENT
from hocket.planning.candidate import Cluster, Job
from hocket.planning.demand import Cut, Shape, piece_parameters
from hocket.planning.network.placement import groups_of
from hocket.planning.rates import Rates
from hocket.planning.traffic import InPasses, Message


@dataclass(frozen=True)
class Spent:
    """Seconds of a pass, by what they go to."""

    compute: float = 0.0
    recompute: float = 0.0
    communication: float = 0.0
    """Held up by others' numbers; what runs beside computing is not in it."""

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.compute + self.recompute + self.communication

    def divided(self, number: float) -> Spent:
        """A part of each kind."""
        return Spent(self.compute / number, self.recompute / number, self.communication / number)

    def __add__(self, other: Spent) -> Spent:
        return Spent(
            self.compute + other.compute,
            self.recompute + other.recompute,
            self.communication + other.communication,
        )


def stages_of(job: Job, layout: Layout) -> list[range]:
    """The pieces of each stage, as :func:`hocket.parallel.apply` cuts them; without ``pp`` one of all."""
    if layout.pp == 1:
        return [range(job.config.num_pieces)]
    costs = [piece.cost for piece in pieces(job.config, TYPICAL_FRAMES)]
    return balance(costs, layout.pp, CHUNKS[layout.schedule])


def is_recomputed(layout: Layout, num_layers: int, piece: int) -> bool:
    """True for a piece that is computed again; a target in bytes must have been settled before."""
    if layout.recompute in ("none", "all"):
        return layout.recompute == "all" and piece <= num_layers
    return 0 < piece <= min(int(layout.recompute), num_layers)


class Passes:
    """Seconds of passes of micro-batches through pieces, for a layout on a cluster.

    ``rates`` are those of the cluster's devices as they are when so many compute at once.
    """

    def __init__(
        self, job: Job, layout: Layout, precision: Precision, cluster: Cluster, rates: Rates, *, beside: bool
    ) -> None:
        """``beside``: sending goes on beside computing; without it, it takes the core from it."""
        self._job, self._layout, self._precision = job, layout, precision
        self._cluster, self._rates, self._beside = cluster, rates, beside
        self._cut = Cut(layout.tp, layout.sp)
        self._groups: dict[str, list[list[int]]] = {}
        self.passes = cache(self._passes)
        self.stage = cache(self._stage)
        """(forward, backward) of some pieces for a shape."""

    def _stage(self, chosen: range, shape: Shape) -> tuple[Spent, Spent]:
        total = Spent(), Spent()
        for piece in chosen:
            again = is_recomputed(self._layout, self._job.config.num_layers, piece)
            forward, backward = self.passes(self._kind(piece), again, shape)
            total = total[0] + forward, total[1] + backward
        if self._layout.dp_shard > 1:
            forward, backward = self._gathering(chosen, shape)
            total = total[0] + forward, total[1] + backward
        return total

    def seconds(self, message: Message) -> float:
        """Of an operation along an axis, over all its times."""
        if message.axis not in self._groups:
            self._groups[message.axis] = groups_of(self._layout, [message.axis])
        groups = self._groups[message.axis]
        return message.times * self._cluster.fabric.seconds(message.operation, groups, message.num_bytes)

    def exposed(self, sending: float, computing: float) -> float:
        """What sending takes beyond the computing that could run beside it."""
        return max(0.0, sending - computing) if self._beside else sending

    def _kind(self, piece: int) -> int:
        """All blocks are alike: the first stands for them."""
        return 1 if 0 < piece <= self._job.config.num_layers else piece

    def _passes(self, piece: int, again: bool, shape: Shape) -> tuple[Spent, Spent]:
        config, layout = self._job.config, self._layout
        forward, backward = self._rates.piece(config, self._precision, piece, shape, self._cut)
        met = InPasses()
        if 0 < piece <= config.num_layers:
            met = traffic.in_block(config, layout, shape, ELEMENT[self._precision])
        elif piece:
            met = traffic.in_head(config, layout, shape)
        sent_forward, sent_backward = (
            sum(self.seconds(message) for message in messages) for messages in (met.forward, met.backward)
        )
        if layout.sp > 1 and piece > config.num_layers:  # ranks take turns through CTC's trellis
            turns = self._rates.of_kind(config, self._precision, piece, shape, self._cut, "steps_of_trellis")
            sent_forward += (layout.sp - 1) * turns[0]
            sent_backward += (layout.sp - 1) * turns[1]
        if again:  # collectives and all
            return (
                Spent(forward, communication=sent_forward),
                Spent(backward, forward, sent_backward + sent_forward),
            )
        return Spent(forward, communication=sent_forward), Spent(backward, communication=sent_backward)

    def _gathering(self, chosen: range, shape: Shape) -> tuple[Spent, Spent]:
        """Of parameters that ranks share: by block, the next one's while one runs; the rest before all.

        Where they stay for a step, it is a micro-batch's part of gathering them once.
        """
        config, layout = self._job.config, self._layout
        block_bytes = traffic.VALUE * piece_parameters(config, 1, layout.tp)
        rest = sum(
            traffic.VALUE * piece_parameters(config, piece, layout.tp)
            for piece in chosen
            if not 0 < piece <= config.num_layers
        )
        num_blocks = sum(0 < piece <= config.num_layers for piece in chosen)
        gather, gather_rest = (
            self.seconds(Message("dp_shard", "all_gather", whole / layout.dp_shard))
            for whole in (block_bytes, rest)
        )
        scatter, scatter_rest = (
            self.seconds(Message("dp_shard", "reduce_scatter", whole)) for whole in (block_bytes, rest)
        )
        stays = layout.reshard == "step"
        per_step = max(1.0, self._job.micro_batches_per_step / layout.num_groups) if stays else 1.0
        if not num_blocks:
            return Spent(communication=gather_rest / per_step), Spent(communication=scatter_rest)
        forward, backward = self.passes(1, False, shape)
        ahead = self.exposed(gather, forward.seconds) * (num_blocks - 1) + gather
        beside = scatter if stays else gather + scatter
        back = self.exposed(beside, backward.seconds) * (num_blocks - 1) + scatter
        return Spent(communication=(gather_rest + ahead) / per_step), Spent(communication=back + scatter_rest)


def parameters_of(job: Job, layout: Layout, stages: Sequence[range], rank: int) -> int:
    """Parameters of one rank of a pipeline, before they are shared along ``dp_shard``."""
    own = [piece for stage in stages[rank :: layout.pp] for piece in stage]
    return sum(piece_parameters(job.config, piece, layout.tp) for piece in own)
