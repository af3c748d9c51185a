"""Every way of being parallel that is worth a prediction: layouts, strategies, precisions, recomputation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hocket.core.layout import Layout, Reshard, Schedule
from hocket.parallel.precision import Precision
from hocket.planning.candidate import Candidate
from hocket.sync import AllReduceSettings, SyncBase
from hocket.sync.compression import Bf16, OneBitSgd
from hocket.sync.gossip import GossipSettings
from hocket.sync.leased import LeasedSettings
from hocket.sync.local_sgd import LocalSgdSettings
from hocket.sync.server import ServerSettings

Strategy = SyncBase | LeasedSettings


@dataclass(frozen=True)
class Asked:
    """What a recipe asks for, and what may be chosen otherwise."""

    precision: Precision
    sync: Strategy
    micro_batches_per_step: int


def all_candidates(asked: Asked, workers: int) -> Iterator[Candidate]:
    """Of so many workers; whether a model takes a layout, and a device its memory, is not asked here."""
    for layout in layouts(workers):
        for precision in _precisions(asked.precision):
            for number in _micro_batches(asked.micro_batches_per_step, layout.num_groups):
                for sync in strategies(asked.sync, layout):
                    yield Candidate(layout, sync, precision, number)


def layouts(workers: int) -> Iterator[Layout]:
    """All degrees whose product is ``workers``, schedules of a pipeline, with and without recomputing.

    Gathered parameters stay for a block or for a step.
    """
    for pp, rest in _splits(workers):
        for dp_shard, rest_of_shard in _splits(rest):
            for sp, rest_of_sequence in _splits(rest_of_shard):
                for tp, replicas in _splits(rest_of_sequence):
                    for schedule in _schedules(pp):
                        for recompute in ("none", "all"):
                            for reshard in _reshards(dp_shard):
                                yield Layout(pp, replicas, dp_shard, sp, tp, schedule, recompute, reshard)


def strategies(own: Strategy, layout: Layout) -> Sequence[Strategy]:
    """The recipe's own first; the others where there are replicas to agree."""
    others: list[Strategy] = []
    if layout.dp_replicate > 1:
        others = [
            AllReduceSettings(),
            AllReduceSettings(compression=Bf16()),
            AllReduceSettings(compression=OneBitSgd()),
            LocalSgdSettings(),
        ]
        if layout.replica_size == 1:
            others += [ServerSettings(), GossipSettings()]
    return [own, *(other for other in others if other != own)]


def worker_counts(most: int) -> list[int]:
    """Powers of two up to ``most``, and ``most``."""
    counts = {most}
    number = 1
    while number < most:
        counts.add(number)
        number *= 2
    return sorted(counts)


def _splits(number: int) -> Iterator[tuple[int, int]]:
    """(divisor, number over it), ascending."""
    for divisor in range(1, number + 1):
        if number % divisor == 0:
            yield divisor, number // divisor


def _schedules(pp: int) -> tuple[Schedule, ...]:
    return ("1f1b", "interleaved") if pp > 1 else ("1f1b",)


def _reshards(dp_shard: int) -> tuple[Reshard, ...]:
    return ("block", "step") if dp_shard > 1 else ("block",)


def _precisions(own: Precision) -> tuple[Precision, ...]:
    return ("fp32", "bf16") if own == "fp32" else ("bf16", "fp32")


def _micro_batches(number: int, num_groups: int) -> tuple[int, ...]:
    """As the recipe has it, and where groups do not divide it the next number that they do."""
    if number % num_groups == 0:
        return (number,)
    return number, -(-number // num_groups) * num_groups
