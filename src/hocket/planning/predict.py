"""How long a step takes, by what the time goes to: the real plan of batches, dealt and run on paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

from hocket.batching import deal
from hocket.core.layout import Layout
from hocket.parallel.pipeline import CHUNKS
from hocket.parallel.pipeline_schedule import Action, make_order
from hocket.parallel.precision import Precision
from hocket.planning import traffic
from hocket.planning.activations import ELEMENT
from hocket.planning.at_their_pace import leased_step
from hocket.planning.candidate import Candidate, Cluster, Job, PlannedMicroBatch
from hocket.planning.passes import Passes, Spent, parameters_of, stages_of
from hocket.planning.pipeline import simulate
from hocket.planning.rates import Rates
from hocket.planning.step_time import StepTime
from hocket.planning.traffic import VALUE, Message
from hocket.sync import SyncBase
from hocket.sync.compression import NoCompression


@dataclass(frozen=True)
class Agreement:
    """What one agreement between replicas takes a rank, whenever it is due: seconds, but for ``sent``."""

    sending: float = 0.0
    """Of all buckets; it may go beside the last backward pass."""
    num_buckets: int = 1
    after: float = 0.0
    """Sending that begins when all is there, and the coding of a compression."""
    sent: float = 0.0
    """Bytes that a rank puts on the wire."""

    def exposed(self, passes: Passes, hidden_by: float) -> float:
        """What no computing hides, where so many seconds of it go on beside; the last bucket shows."""
        beside = hidden_by * (1 - 1 / self.num_buckets)
        return max(passes.exposed(self.sending, beside), self.sending / self.num_buckets) + self.after


@dataclass(frozen=True)
class Inside:
    """What a layout makes of a job in one precision, whatever the strategy between replicas."""

    passes: Passes
    rates: Rates
    beside: bool
    """Sending goes on beside computing."""
    parameters: tuple[int, ...]
    """Of each rank of a pipeline, before they are shared."""
    loads: tuple[tuple[Spent, ...], ...]
    """Of each replica in each step of the sample."""
    bubble: float
    """Seconds of a step."""
    last_backward: float
    """Seconds of the pass beside which buckets are sent: that of a rank's last micro-batch."""
    num_groups: int
    """That the sample's steps were dealt to."""
    bytes_by_axis: dict[str, float]

    @property
    def mean(self) -> Spent:
        """Of a replica's step."""
        spent = [each for step in self.loads for each in step]
        total = sum(spent, Spent())
        return total.divided(len(spent))

    def shared_sums(self, layout: Layout) -> float:
        """Seconds of a step's sum of gradients over ranks that share frames."""
        if layout.sp == 1:
            return 0.0
        num_bytes = VALUE * max(self.parameters) / layout.dp_shard
        return self.passes.seconds(Message("sp", "all_reduce", num_bytes))

    def slowest(self, num_steps: int) -> float:
        """Seconds of a step where replicas wait for each other after every so many."""
        rounds = [self.loads[start : start + num_steps] for start in range(0, len(self.loads), num_steps)]
        totals = [
            [sum(step[replica].seconds for step in each) for replica in range(len(each[0]))]
            for each in rounds
        ]
        return sum(max(each) for each in totals) / len(self.loads)


def run_inside(
    job: Job, layout: Layout, precision: Precision, cluster: Cluster, dealt: int | None = None
) -> Inside:
    """Deal the job's steps and run them on paper; see :func:`predict_step` for ``dealt``."""
    full = min(cluster.per_host, layout.world_size)
    rates = crowded(cluster, full)
    beside = cluster.host_bytes_per_second is None or full < cluster.per_host
    passes = Passes(job, layout, precision, cluster, rates, beside=beside)
    stages = stages_of(job, layout)
    held = tuple(parameters_of(job, layout, stages, rank) for rank in range(layout.pp))
    num_dealt = dealt or layout.dp_replicate
    loads, bubbles = _loads(job, layout, num_dealt, passes, stages, ELEMENT[precision])
    return Inside(
        passes=passes,
        rates=rates,
        beside=beside,
        parameters=held,
        loads=loads,
        bubble=sum(bubbles) / len(bubbles),
        last_backward=passes.stage(stages[0], job.typical_shape)[1].compute,
        num_groups=num_dealt * layout.dp_shard,
        bytes_by_axis=_inside_bytes(job, layout, precision, max(held) / layout.dp_shard),
    )


def predict_step(
    job: Job,
    candidate: Candidate,
    cluster: Cluster,
    dealt: int | None = None,
    inside: Inside | None = None,
) -> StepTime:
    """Seconds of a step of ``job``, run as ``candidate`` says, on ``cluster``.

    The layout must fit the model (:func:`hocket.parallel.check.check`) and the cluster's devices. With
    ``dealt`` the job's steps are those of so many replicas, which stand for all of them. ``inside`` is what
    :func:`run_inside` found of the candidate's layout and precision, where that is known.
    """
    layout, sync = candidate.layout, candidate.sync
    inside = inside or run_inside(job, layout, candidate.precision, cluster, dealt)
    passes, rates = inside.passes, inside.rates
    if not isinstance(sync, SyncBase):
        return leased_step(job, sync, layout, passes, rates, cluster, sum(inside.parameters))

    mean = inside.mean
    slowest = inside.slowest(max(1, round(1 / traffic.agreements_per_step(sync))))
    largest = max(inside.parameters) / layout.dp_shard
    agreement = agree(sync, largest, layout, passes, rates)
    share = traffic.agreements_per_step(sync)
    agreeing = share * agreement.exposed(passes, inside.last_backward if traffic.overlaps(sync) else 0.0)
    agreeing += inside.shared_sums(layout)
    optimiser = rates.optimiser.seconds(largest)
    if job.keeps_average:
        optimiser += rates.average.seconds(largest)
    by_kind = {
        "compute": mean.compute,
        "recompute": mean.recompute,
        "bubble": inside.bubble,
        "wait": max(0.0, slowest - mean.seconds),
        "communication": mean.communication + agreeing,
        "optimiser": optimiser,
    }
    by_kind["data"] = _data(job, inside.num_groups, rates, inside.beside, sum(by_kind.values()))
    wire = dict(inside.bytes_by_axis)
    if layout.dp_replicate > 1:
        wire["dp_replicate"] = share * agreement.sent
    bubble = inside.bubble / (mean.seconds + inside.bubble)
    return StepTime(by_kind, wire, slowest / mean.seconds, bubble)


def crowded(cluster: Cluster, num_busy: int) -> Rates:
    """The rates of a device while so many of its host compute at once."""
    if cluster.per_host == 1 or num_busy == 1:
        return cluster.rates
    share = (num_busy - 1) / (cluster.per_host - 1)
    crowding = cluster.crowding
    return cluster.rates.slowed(1 + (crowding.arithmetic - 1) * share, 1 + (crowding.memory - 1) * share)


def _loads(
    job: Job, layout: Layout, num_dealt: int, passes: Passes, stages: Sequence[range], element: int
) -> tuple[tuple[tuple[Spent, ...], ...], list[float]]:
    """What each replica spends in each step of the sample, and the seconds of bubble in the mean of each."""
    loads: list[tuple[Spent, ...]] = []
    bubbles: list[float] = []
    for step in job.steps:
        dealt = deal([batch.cost for batch in step], num_dealt, layout.dp_shard)
        found: list[Spent] = []
        lost = 0.0
        for slots in dealt.slots:
            batches = [_costliest(step, slot) for slot in slots]
            spent, idle = _replica(job, layout, passes, stages, batches, element)
            found.append(spent)
            lost += idle / len(dealt.slots)
        loads.append(tuple(found))
        bubbles.append(lost)
    return tuple(loads), bubbles


def _costliest(step: Sequence[PlannedMicroBatch], slot: Sequence[int | None]) -> PlannedMicroBatch:
    """The micro-batch of a slot that the others' groups wait for."""
    return max((step[position] for position in slot if position is not None), key=lambda batch: batch.cost)


def _replica(
    job: Job,
    layout: Layout,
    passes: Passes,
    stages: Sequence[range],
    batches: Sequence[PlannedMicroBatch],
    element: int,
) -> tuple[Spent, float]:
    """What a replica's ranks spend on some micro-batches, in the mean, and how long they have no work."""
    if layout.pp == 1:
        both = (pair for batch in batches for pair in passes.stage(stages[0], batch.shape))
        return sum(both, Spent()), 0.0
    if not batches:
        return Spent(), 0.0
    order = make_order(layout.schedule, layout.pp, CHUNKS[layout.schedule], len(batches))

    def spent(action: Action) -> Spent:
        both = passes.stage(stages[action.stage], batches[action.micro_batch].shape)
        return both[action.kind == "backward"]

    def transfer(action: Action) -> float:
        num_bytes = traffic.handed_on(job.config, layout, batches[action.micro_batch].shape, element)
        return passes.seconds(Message("pp", "p2p", num_bytes))

    forecast = simulate(order, lambda action: spent(action).seconds, transfer)
    total = sum((spent(action) for actions in order for action in actions), Spent())
    mean = total.divided(layout.pp)
    return mean, forecast.seconds - mean.seconds


def agree(sync: SyncBase, num_parameters: float, layout: Layout, passes: Passes, rates: Rates) -> Agreement:
    """What replicas that agree on so many parameters of a rank spend on it."""
    if layout.dp_replicate == 1:
        return Agreement()
    compression = getattr(sync, "compression", NoCompression())
    coding = (
        rates.coding[compression.name].seconds(num_parameters) if compression.name in rates.coding else 0.0
    )
    num_buckets = max(1, ceil(VALUE * num_parameters / (sync.bucket_mb * 2**20)))
    first, *then = list(traffic.agreeing(sync, num_parameters, layout.dp_replicate))
    return Agreement(
        sending=passes.seconds(_in_buckets(first, num_buckets)),
        num_buckets=num_buckets,
        after=coding + sum(passes.seconds(_in_buckets(message, num_buckets)) for message in then),
        sent=sum(message.sent(layout.dp_replicate) for message in (first, *then)),
    )


def _in_buckets(message: Message, num_buckets: int) -> Message:
    return replace(message, num_bytes=message.num_bytes / num_buckets, times=message.times * num_buckets)


def _data(job: Job, num_groups: int, rates: Rates, beside: bool, busy: float) -> float:
    """Seconds of reading that show: all of it where cores are full, else what is longer than the rest."""
    reading = rates.loading * job.audio_per_step / num_groups
    return max(0.0, reading - busy) if beside else reading


def _inside_bytes(job: Job, layout: Layout, precision: Precision, num_parameters: float) -> dict[str, float]:
    """Bytes that a rank sends in a step within its replica, by axis, in the mean over the sample."""
    element = ELEMENT[precision]
    found: dict[str, float] = {}
    per_rank = len(job.steps) * layout.num_groups
    for batch in (batch for step in job.steps for batch in step):
        block = traffic.in_block(job.config, layout, batch.shape, element)
        head = traffic.in_head(job.config, layout, batch.shape)
        for met, times in ((block, job.config.num_layers), (head, 1)):
            for message in (*met.forward, *met.backward):
                sent = times * message.sent(getattr(layout, message.axis)) / per_rank / layout.pp
                found[message.axis] = found.get(message.axis, 0.0) + sent
        if layout.pp > 1:
            handed = traffic.handed_on(job.config, layout, batch.shape, element)
            found["pp"] = found.get("pp", 0.0) + 2 * handed / per_rank
    if layout.sp > 1:
        found["sp"] += Message("sp", "all_reduce", VALUE * num_parameters).sent(layout.sp)
    if layout.dp_shard > 1:
        passes = len(job.steps[0]) / layout.num_groups
        whole = VALUE * num_parameters * (layout.dp_shard - 1)
        found["dp_shard"] = (traffic.num_gathers(layout, passes) + passes) * whole
    return found
