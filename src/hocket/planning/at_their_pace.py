"""Steps of workers at their own pace: a server, neighbours, or shared memory, and nobody waits for all.

A step is then as much audio as a step of the others: its micro-batches leased out, each by whoever is free.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from hocket.core.layout import Layout
from hocket.planning.candidate import Cluster, Job
from hocket.planning.passes import Passes, Spent
from hocket.planning.rates import Rates
from hocket.planning.step_time import KINDS, StepTime
from hocket.planning.traffic import VALUE, Message
from hocket.sync.gossip import GossipSettings
from hocket.sync.leased import LeasedSettings
from hocket.sync.server import ServerSettings

PUSHED = {"fp32": 1.0, "bf16": 0.5, "fp16": 0.5, "one_bit": (1 + 16 / 512) / 32}
"""Bytes of a push over those of gradients as they are."""


def leased_step(
    job: Job,
    sync: LeasedSettings,
    layout: Layout,
    passes: Passes,
    rates: Rates,
    cluster: Cluster,
    num_parameters: int,
) -> StepTime:
    """Seconds of a step's worth of micro-batches, in the mean over the sample."""
    workers = layout.dp_replicate
    stage = range(job.config.num_pieces)
    total, slowest_lease = Spent(), 0.0
    for step in job.steps:
        for batch in step:
            forward, backward = passes.stage(stage, batch.shape)
            total = total + forward + backward
            slowest_lease = max(slowest_lease, forward.seconds + backward.seconds)
    mean = total.compute / len(job.steps) / workers
    leases = ceil(job.micro_batches_per_step / sync.micro_batches_per_lease)
    own = leases / workers  # leases of a worker in a step
    num_bytes = VALUE * num_parameters
    step_of_all = rates.optimiser.seconds(num_parameters)
    by_kind: dict[str, float] = {"compute": mean}
    if isinstance(sync, ServerSettings):
        share = PUSHED[sync.push_type]
        line = Message("dp_replicate", "p2p", num_bytes / sync.shards)
        pull = sync.shards * passes.seconds(line)
        push = pull * share
        at_server = pull * (1 + share) + step_of_all / (1 if sync.mode == "asynchronous" else leases)
        # A server serves one push after another: with many workers it is what they all wait for.
        busy = leases * at_server / sync.shards
        alone = mean + own * (pull + push)
        by_kind["communication"] = own * (pull + push)
        by_kind["wait"] = max(0.0, busy - alone)
        if sync.mode == "synchronous":
            by_kind["wait"] = max(by_kind["wait"], _uneven(job, passes, workers) - mean)
        sent = own * num_bytes * share
    elif isinstance(sync, GossipSettings):
        meeting = passes.seconds(Message("dp_replicate", "p2p", num_bytes)) if workers > 1 else 0.0
        by_kind["communication"] = passes.exposed(2 * own * meeting, mean)
        by_kind["optimiser"] = own * step_of_all
        sent = own * num_bytes
        if sync.topology == "full" and workers > 1:
            by_kind["communication"] = passes.seconds(Message("dp_replicate", "all_reduce", num_bytes))
    else:
        by_kind["optimiser"] = own * step_of_all
        sent = 0.0
    shows = cluster.host_bytes_per_second is not None
    by_kind["data"] = _data(job, rates, workers, sum(by_kind.values()), shows=shows)
    return StepTime(_all_kinds(by_kind), {"dp_replicate": sent} if workers > 1 else {}, 1.0, 0.0)


def _uneven(job: Job, passes: Passes, workers: int) -> float:
    """Seconds of the slowest worker when each step's micro-batches must be through before the next."""
    stage = range(job.config.num_pieces)
    total = 0.0
    for step in job.steps:
        free = [0.0] * workers
        for batch in step:
            forward, backward = passes.stage(stage, batch.shape)
            first = free.index(min(free))
            free[first] += forward.compute + backward.compute
        total += max(free)
    return total / len(job.steps)


def _data(job: Job, rates: Rates, workers: int, busy: float, *, shows: bool) -> float:
    reading = rates.loading * job.audio_per_step / workers
    return reading if shows else max(0.0, reading - busy)


def _all_kinds(found: Mapping[str, float]) -> dict[str, float]:
    return {kind: found.get(kind, 0.0) for kind in KINDS}
