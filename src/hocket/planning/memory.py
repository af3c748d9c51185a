"""What a rank must hold at once, by what it is for: layout, strategy and the largest micro-batch decide.

Counted is the storage of tensors. What libraries and the interpreter take is the cluster's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hocket.core.layout import Layout, target_bytes
from hocket.parallel.pipeline import CHUNKS
from hocket.parallel.pipeline_schedule import make_order
from hocket.parallel.precision import Precision
from hocket.planning import activations
from hocket.planning.candidate import Candidate, Job
from hocket.planning.demand import Cut, Shape, piece_parameters
from hocket.planning.passes import is_recomputed, parameters_of, stages_of
from hocket.sync import AllReduceSettings, SyncBase
from hocket.sync.compression import CompressionSettings, NoCompression, TopK
from hocket.sync.gossip import GossipSettings
from hocket.sync.leased import LeasedSettings
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.outer import Average

_VALUE = 4
_SLOTS = 2
"""Of AdamW: two averages for each parameter."""


@dataclass(frozen=True)
class RankMemory:
    """Bytes of one rank at its fullest moment."""

    parameters: float
    gradients: float
    optimiser: float
    average: float
    agreement: float
    """Copies, residuals and buffers of the strategy."""
    activations: float
    """Kept for backward passes."""
    passing: float
    """What is needed for a moment beside them: gradients of activations, gathered parameters."""

    @property
    def total(self) -> float:
        """All of it."""
        return float(sum(asdict(self).values()))


def rank_memory(job: Job, candidate: Candidate) -> RankMemory:
    """Of the rank that needs most."""
    layout = candidate.layout
    stages = stages_of(job, layout)
    return max(
        (_of_rank(job, candidate, stages, rank) for rank in range(layout.pp)), key=lambda found: found.total
    )


def _of_rank(job: Job, candidate: Candidate, stages: Sequence[range], rank: int) -> RankMemory:
    layout, sync = candidate.layout, candidate.sync
    whole = parameters_of(job, layout, stages, rank)
    own = whole / layout.dp_shard
    kept, passing = max(
        (_activations(job, layout, candidate.precision, stages, rank, batch.shape) for batch in job.largest),
        key=sum,
    )
    if layout.dp_shard > 1:
        passing += _gathered(job, layout, stages, rank)
    return RankMemory(
        parameters=_VALUE * own,
        gradients=_VALUE * own * (3 if job.exact else 1),  # integers of eight bytes beside them
        optimiser=_VALUE * _SLOTS * own if _steps_here(sync) else 0.0,
        average=_VALUE * own if job.keeps_average else 0.0,
        agreement=_VALUE * own * copies_of(sync, layout.dp_replicate),
        activations=kept,
        passing=passing,
    )


def settle(job: Job, candidate: Candidate) -> Candidate:
    """With what recomputes, where the layout gives bytes to stay below: as few blocks as do, or all parts."""
    layout, config = candidate.layout, job.config
    target = target_bytes(layout.recompute)
    if target is None:
        return candidate
    cut, precision = Cut(layout.tp, layout.sp), candidate.precision
    needed = 0
    for batch in job.largest:
        shape = batch.shape
        least = activations.kept_by_subsampling(config, precision, shape, cut)
        least += activations.kept_by_head(config, precision, shape, cut)
        again = activations.kept_input(config, precision, shape, cut)
        more = activations.kept_by_block(config, precision, shape, cut) - again
        spare = target - least - config.num_layers * again
        if spare < 0:
            return replace(candidate, layout=replace(layout, recompute="all"))
        needed = max(needed, config.num_layers - min(config.num_layers, int(spare / more)))
    return replace(candidate, layout=replace(layout, recompute=needed))


def copies_of(sync: SyncBase | LeasedSettings, num_replicas: int) -> float:
    """How many times the parameters a strategy holds beside weights, gradients and optimiser."""
    if isinstance(sync, LeasedSettings):
        return 2.0 if isinstance(sync, GossipSettings) else 1.0
    if num_replicas == 1:
        return _coding(sync.compression, 1) if isinstance(sync, AllReduceSettings) else 1.0
    if isinstance(sync, LocalSgdSettings):
        outer = 0 if isinstance(sync.outer, Average) else 1
        return 1 + 2 * (sync.overlap_steps > 0) + outer + _coding(sync.compression, num_replicas)
    assert isinstance(sync, AllReduceSettings)
    return _coding(sync.compression, num_replicas)


def _coding(compression: CompressionSettings, num_replicas: int) -> float:
    if isinstance(compression, NoCompression):
        return 0.0
    if isinstance(compression, TopK):
        return 2 + 2 * compression.density * num_replicas
    if compression.name == "power_sgd":
        return 3.2
    shard = 1 / num_replicas
    return 3 + 2 * shard + 0.07 if compression.name == "one_bit" else 3 + 1 * shard


def _steps_here(sync: SyncBase | LeasedSettings) -> bool:
    """True where the worker holds the optimiser's state: not with a server or shared memory."""
    return isinstance(sync, SyncBase | GossipSettings)


def _activations(
    job: Job, layout: Layout, precision: Precision, stages: Sequence[range], rank: int, shape: Shape
) -> tuple[float, float]:
    """(kept, passing) bytes with as many such micro-batches under way as the schedule has at once."""
    config, cut = job.config, Cut(layout.tp, layout.sp)

    def again(piece: int) -> bool:
        return is_recomputed(layout, config.num_layers, piece)

    def of_stage(chosen: range) -> float:
        kept = 0.0
        for piece in chosen:
            if piece == 0:
                kept += activations.kept_by_subsampling(config, precision, shape, cut, again=again(0))
            elif again(piece):
                kept += activations.kept_input(config, precision, shape, cut)
            elif piece <= config.num_layers:
                kept += activations.kept_by_block(config, precision, shape, cut)
            else:
                kept += activations.kept_by_head(config, precision, shape, cut)
        return kept

    own = {number: of_stage(stages[number]) for number in range(rank, len(stages), layout.pp)}
    most = _most_under_way(layout, rank, own, job.micro_batches_per_step)
    held = {piece for number in own for piece in stages[number]}
    fullest = [most]
    if any(0 < piece <= config.num_layers and not again(piece) for piece in held):
        fullest.append(most + activations.passing_block(config, precision, shape, cut))
    elif any(0 < piece <= config.num_layers for piece in held):  # one is whole while it is run again
        whole = activations.kept_by_block(config, precision, shape, cut)
        fullest.append(most + whole + activations.passing_block(config, precision, shape, cut))
    if config.num_pieces - 1 in held:
        fullest.append(most + activations.passing_head(config, precision, shape, cut))
    if 0 in held:
        fullest.append(activations.fullest_subsampling(config, shape, cut))
        if again(0):
            fullest.append(activations.kept_by_subsampling(config, precision, shape, cut))
    return most, max(fullest) - most


def _most_under_way(layout: Layout, rank: int, of_stage: dict[int, float], num_micro_batches: int) -> float:
    """Bytes kept at the fullest moment of a rank's actions."""
    if layout.pp == 1:
        return sum(of_stage.values())
    num = max(1, -(-num_micro_batches // layout.num_groups))
    now = most = 0.0
    for action in make_order(layout.schedule, layout.pp, CHUNKS[layout.schedule], num)[rank]:
        now += of_stage[action.stage] if action.kind == "forward" else -of_stage[action.stage]
        most = max(most, now)
    return most


def _gathered(job: Job, layout: Layout, stages: Sequence[range], rank: int) -> float:
    """Whole parameters for a moment: what is in no block, two blocks, and the gradient of one.

    Where they stay for a step: all, and that gradient.
    """
    if layout.reshard == "step":
        one = piece_parameters(job.config, 1, layout.tp)
        return _VALUE * (parameters_of(job, layout, stages, rank) + one)
    own = [piece for stage in stages[rank :: layout.pp] for piece in stage]
    last = job.config.num_pieces - 1
    rest = sum(piece_parameters(job.config, piece, layout.tp) for piece in own if piece in (0, last))
    return _VALUE * (rest + 3 * piece_parameters(job.config, 1, layout.tp))
