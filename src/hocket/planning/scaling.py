"""How much more devices bring: a plan's replica, copied over ever more of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np

from hocket.planning import traffic
from hocket.planning.candidate import Candidate, Cluster, Job
from hocket.planning.predict import agree, predict_step, run_inside
from hocket.planning.simulation import Dealt, Work, simulate
from hocket.sync import SyncBase

MOST = 4096
"""Devices at the end of a curve."""
_DEALT = 64
"""Replicas that real micro-batches are dealt to; what others have to do is drawn from what these have."""
_GROWN, _STEPS = 4, 64
"""Steps of the plan that are made larger; steps of a simulation, which goes through them in turn."""


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
    """Doubling the replicas of ``candidate`` from one; ``grow`` makes the cluster of so many hosts.

    Steps that grow are simulated, rank by rank (:mod:`hocket.planning.simulation`): all wait for the one that
    has most to do. Steps that do not grow are dealt as training deals them.
    """
    size = candidate.layout.replica_size
    replicas = 1
    while replicas * size <= most:
        cluster = grow(max(1, -(-replicas * size // per_host)))
        spread = replace(candidate, layout=replace(candidate.layout, dp_replicate=replicas))
        dealt = min(replicas, _DEALT)
        grown = _grown(job, candidate, dealt)
        weak = grown.audio_per_step * replicas / dealt / _step_seconds(grown, spread, cluster, dealt)
        strong = job.audio_per_step / predict_step(job, spread, cluster).seconds
        yield Point(replicas * size, weak, strong)
        replicas *= 2


def _step_seconds(job: Job, candidate: Candidate, cluster: Cluster, dealt: int) -> float:
    """Of a step, of which ``job`` has the micro-batches of ``dealt`` replicas."""
    layout, sync = candidate.layout, candidate.sync
    if not isinstance(sync, SyncBase):  # nobody waits for the slowest
        return predict_step(job, candidate, cluster, dealt).seconds
    inside = run_inside(job, layout, candidate.precision, cluster, dealt)
    predicted = predict_step(job, candidate, cluster, dealt, inside)
    agreement = agree(sync, max(inside.parameters) / layout.dp_shard, layout, inside.passes, inside.rates)
    share = traffic.agreements_per_step(sync)
    bucket = agreement.sending / agreement.num_buckets
    last = inside.last_backward if inside.beside and traffic.overlaps(sync) else 0.0
    mean = inside.mean.seconds + inside.bubble
    last = min(last, mean)
    simulated = simulate(
        Work(mean - last, last, grad_buckets=(bucket,) * agreement.num_buckets),
        layout.dp_replicate,
        lambda seconds: seconds,
        _STEPS,
        Dealt(np.array([[each.seconds for each in step] for step in inside.loads])),
        max(1, round(1 / share)),
    )
    once = predicted.by_kind["optimiser"] + predicted.by_kind["data"] + inside.shared_sums(layout)
    return simulated.seconds + share * agreement.after + once


def _grown(job: Job, candidate: Candidate, replicas: int) -> Job:
    """Steps with as many micro-batches for each replica as the plan has now, and of sizes as even as now."""
    each = max(1, job.micro_batches_per_step // candidate.layout.dp_replicate)
    steps = [list(islice(cycle(step), each * replicas)) for step in job.steps[:_GROWN]]
    return replace(job, steps=steps)
