"""How much more devices bring: a plan's replica, copied over ever more of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice

from hocket.planning.candidate import Candidate, Cluster, Job
from hocket.planning.predict import predict_step

MOST = 4096
"""Devices at the end of a curve."""
_DEALT = 64
"""Replicas that are dealt to, one by one; the slowest of more is taken to be like the slowest of these."""


@dataclass(frozen=True)
class Point:
    """So many devices, with the same speech for each in a step, or the same step shared by all."""

    workers: int
    weak: float
    """Seconds of speech learnt from in a second, when a step grows with the devices."""
    strong: float
    """The same, when it does not."""


def curve(
    job: Job, candidate: Candidate, grow: Callable[[int], Cluster], per_host: int, most: int = MOST
) -> Iterator[Point]:
    """Doubling the replicas of ``candidate`` from one; ``grow`` makes the cluster of so many hosts."""
    size = candidate.layout.replica_size
    replicas = 1
    while replicas * size <= most:
        cluster = grow(max(1, -(-replicas * size // per_host)))
        dealt = min(replicas, _DEALT)
        grown = _grown(job, candidate, dealt)
        spread = replace(candidate, layout=replace(candidate.layout, dp_replicate=replicas))
        weak = grown.audio_per_step * replicas / dealt / predict_step(grown, spread, cluster, dealt).seconds
        strong = job.audio_per_step / predict_step(job, spread, cluster).seconds
        yield Point(replicas * size, weak, strong)
        replicas *= 2


def _grown(job: Job, candidate: Candidate, replicas: int) -> Job:
    """Steps with as many micro-batches for each replica as the plan has now."""
    each = max(1, job.micro_batches_per_step // candidate.layout.dp_replicate)
    flat = [batch for step in job.steps for batch in step]
    num = max(1, len(job.steps) // 4)
    steps = [list(islice(cycle(flat), start, start + each * replicas)) for start in range(num)]
    return replace(job, steps=steps)
