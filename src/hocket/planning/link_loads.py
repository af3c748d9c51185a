"""Which links of a network a step loads, and how long each is busy with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from hocket.planning import traffic
from hocket.planning.activations import ELEMENT
from hocket.planning.candidate import Candidate, Job
from hocket.planning.demand import Shape
from hocket.planning.groups import along
from hocket.planning.network.cost import best
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


def link_loads(job: Job, candidate: Candidate, network: Network) -> tuple[LinkLoad, ...]:
    """Of every link, for a step whose micro-batches are all like a typical one."""
    layout = candidate.layout
    carried_L = np.zeros(len(network.links))
    for message in _messages(job, candidate):
        groups = along(layout, message.axis)
        if len(groups[0]) < 2 or message.num_bytes <= 0:
            continue
        if message.operation == "p2p":
            groups = tuple(group[:2] for group in groups)
        name, whole = whole_bytes(message.operation, len(groups[0]), message.num_bytes)
        carried_L += message.times * best(network, groups, name, whole).link_bytes_L
    return tuple(
        LinkLoad(link.source, link.target, network.graph.label(number), float(num_bytes / link.bandwidth))
        for number, (link, num_bytes) in enumerate(zip(network.links, carried_L, strict=True))
    )


def _messages(job: Job, candidate: Candidate) -> Iterator[Message]:
    layout, config = candidate.layout, job.config
    element = ELEMENT[candidate.precision]
    shape = typical_shape(job)
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
        yield Message("dp_shard", "all_gather", VALUE * own, 2 * passes)
        yield Message("dp_shard", "reduce_scatter", VALUE * held, passes)
    if layout.sp > 1:
        yield Message("sp", "all_reduce", VALUE * own)
    if layout.dp_replicate > 1 and isinstance(candidate.sync, SyncBase):
        share = traffic.agreements_per_step(candidate.sync)
        for message in traffic.agreeing(candidate.sync, own, layout.dp_replicate):
            yield Message(message.axis, message.operation, message.num_bytes, share * message.times)


def typical_shape(job: Job) -> Shape:
    """The micro-batch in the middle, by padded frames."""
    shapes = [batch.shape for step in job.steps for batch in step]
    return sorted(shapes, key=lambda shape: shape.num_rows * shape.num_frames)[len(shapes) // 2]
