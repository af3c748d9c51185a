"""What a step sends over a network, where its ranks are best put there, and how long each link is busy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hocket.planning import traffic
from hocket.planning.activations import ELEMENT
from hocket.planning.candidate import Candidate, Job
from hocket.planning.network.placement import Placement, Traffic
from hocket.planning.network.routing import Network
from hocket.planning.on_network import whole_bytes
from hocket.planning.passes import parameters_of, stages_of
from hocket.planning.traffic import VALUE, Message
from hocket.sync import SyncBase


@dataclass(frozen=True)
class LinkLoad:
    """One direction of a link."""

    source: int
    target: int
    name: str
    seconds: float
    """That it is busy in a step."""


def link_loads(network: Network, sent: Sequence[Traffic], placement: Placement) -> tuple[LinkLoad, ...]:
    """Of every link, when ranks are placed so, and send what :func:`step_traffic` says."""
    carried_L = np.zeros(len(network.links))
    for each, cost in zip(sent, placement.costs, strict=True):
        carried_L += each.times * cost.link_bytes_L
    return tuple(
        LinkLoad(link.source, link.target, network.graph.label(number), float(num_bytes / link.bandwidth))
        for number, (link, num_bytes) in enumerate(zip(network.links, carried_L, strict=True))
    )


def step_traffic(job: Job, candidate: Candidate) -> tuple[Traffic, ...]:
    """The collectives of a step whose micro-batches are all like a typical one.

    What workers at their own pace send to a server or to each other is in none of them.
    """
    found = []
    for message in _messages(job, candidate):
        degree = getattr(candidate.layout, message.axis)
        if degree > 1 and message.num_bytes > 0:
            name, whole = whole_bytes(message.operation, degree, message.num_bytes)
            found.append(Traffic((message.axis,), name, whole, message.times))
    return tuple(found)


def _messages(job: Job, candidate: Candidate) -> Iterator[Message]:
    layout, config = candidate.layout, job.config
    element = ELEMENT[candidate.precision]
    shape = job.typical_shape
    passes = job.micro_batches_per_step / layout.num_groups
    stages = stages_of(job, layout)
    held = max(parameters_of(job, layout, stages, rank) for rank in range(layout.pp))
    own = held / layout.dp_shard
    block, head = traffic.in_block(config, layout, shape, element), traffic.in_head(config, layout, shape)
    for met, number in ((block, config.num_layers / layout.pp), (head, 1 / layout.pp)):
        for message in (*met.forward, *met.backward):
            times = message.times * number * passes
            yield Message(message.axis, message.operation, message.num_bytes, times)
    if layout.pp > 1:
        yield Message("pp", "p2p", traffic.handed_on(config, layout, shape, element), 2 * passes)
    if layout.dp_shard > 1:
        yield Message("dp_shard", "all_gather", VALUE * own, traffic.num_gathers(layout, passes))
        yield Message("dp_shard", "reduce_scatter", VALUE * held, passes)
    if layout.sp > 1:
        yield Message("sp", "all_reduce", VALUE * own)
    if layout.dp_replicate > 1 and isinstance(candidate.sync, SyncBase):
        share = traffic.agreements_per_step(candidate.sync)
        for message in traffic.agreeing(candidate.sync, own, layout.dp_replicate):
            yield Message(message.axis, message.operation, message.num_bytes, share * message.times)
