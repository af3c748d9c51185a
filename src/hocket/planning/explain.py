"""A plan in plain words: what to run, why it is the fastest, what holds it back, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from hocket.core.layout import Layout
from hocket.planning.candidate import Cluster, Job
from hocket.planning.demand import Cut, demand
from hocket.planning.search import NEAR, Found, Ranked

_WORDS = {
    "compute": "computing",
    "recompute": "computing again what did not fit the memory",
    "bubble": "devices of a pipeline without work, at the beginning and the end of a step",
    "wait": "waiting for the copy of the model that has most to do",
    "communication": "sending that no computing hides",
    "optimiser": "the optimiser",
    "data": "reading and decoding audio",
}
"""What a share of a step's time goes to."""
_BEGUN = ("blocks", "micro_batch", "tiles")
"""Kinds of work that count how often something is begun."""
_AXES = {
    "pp": "the model is cut into {} stages, one after the other",
    "dp_replicate": "{} copies of the model learn from different speech, and agree",
    "dp_shard": "{} workers share the weights of one copy and fetch them when they are needed",
    "sp": "{} workers share the frames of every utterance",
    "tp": "{} workers share every layer of the model",
}


def explain(found: Found, job: Job, cluster: Cluster) -> list[str]:
    """Paragraphs, each of a few sentences."""
    return [
        " ".join(part)
        for part in (
            list(_what(found.chosen, job, cluster)),
            list(_how_many(found, cluster)),
            list(_where_time_goes(found.chosen, job, cluster)),
            list(_why(found, cluster)),
            list(_memory(found, cluster)),
            list(_what_would_help(found, job, cluster)),
        )
        if part
    ]


def _what(chosen: Ranked, job: Job, cluster: Cluster) -> Iterator[str]:
    layout = chosen.candidate.layout
    workers, hosts = layout.world_size, cluster.hosts_of(layout.world_size)
    on = f"{workers:,} of the {count(cluster.num_devices, cluster.unit)}"
    if workers == cluster.num_devices:
        on = f"the {count(workers, cluster.unit)}"
    where = f", in {count(hosts, 'host')}" if cluster.num_hosts > 1 else ""
    yield f"Run {count(workers, 'worker')} on {on}{where}:"
    said = [
        _AXES[axis].format(getattr(layout, axis)) + f" ({axis})" for axis in _AXES if _split(layout, axis)
    ]
    yield (", and ".join(said) or "it holds the whole model and does all the work") + "."
    yield (
        f"A step learns from {job.audio_per_step:,.0f} seconds of speech in {seconds(chosen.step.seconds)}, "
        f"and all {job.num_steps:,} steps take {hours(chosen.run_seconds)}."
    )
    if chosen.dollars is not None:
        yield (
            f"At ${cluster.price_per_hour:,.2f} an hour for a {cluster.unit} the run costs about "
            f"${chosen.dollars:,.2f}."
        )
    if chosen.kilowatt_hours is not None:
        yield f"It takes about {chosen.kilowatt_hours:,.2g} kWh."


def _how_many(found: Found, cluster: Cluster) -> Iterator[str]:
    """What fewer devices and more would bring."""
    best = {each.candidate.layout.world_size: each for each in found.by_workers}
    if len(best) < 2:
        return
    chosen = found.chosen.candidate.layout.world_size
    one = found.chosen.run_seconds
    fewer = [number for number in best if number < chosen]
    more = [number for number in best if number > chosen]
    if fewer:
        number, least = max(fewer), min(fewer)
        said = (
            f"With {count(number, cluster.unit)} the run takes {hours(best[number].run_seconds)}, "
            f"{best[number].run_seconds / one:.2f} times as long"
        )
        if least < number:
            said += f"; with {count(least, cluster.unit)} {best[least].run_seconds / one:.2f} times"
        yield f"{said}."
    if more and found.objective == "time":
        fastest = min((best[number] for number in more), key=lambda each: each.run_seconds)
        if fastest.run_seconds < one:
            yield f"More {cluster.unit}s are faster by less than a prediction can tell."
        else:
            yield f"More {cluster.unit}s do not make it faster."
    elif more:
        fastest = min((best[number] for number in more), key=lambda each: each.run_seconds)
        if fastest.run_seconds < one:
            number = fastest.candidate.layout.world_size
            yield (
                f"It is not the fastest: {count(number, cluster.unit)} take {hours(fastest.run_seconds)}"
                f"{_at_what_price(found, fastest)}."
            )


def _at_what_price(found: Found, other: Ranked) -> str:
    ratio = other.value(found.objective) / found.chosen.value(found.objective)
    return f", at {ratio:.2f} times the {found.objective}" if ratio > 1 else ""


def _where_time_goes(chosen: Ranked, job: Job, cluster: Cluster) -> Iterator[str]:
    total = chosen.step.seconds
    parts = sorted(chosen.step.by_kind.items(), key=lambda each: -each[1])
    told = [f"{100 * taken / total:.0f} % is {_WORDS[kind]}" for kind, taken in parts if taken > 0.01 * total]
    yield f"Of a step's time {', '.join(told)}."
    starting = _starting(chosen, job, cluster)
    if cluster.device != "cpu" and starting > 0.4:
        yield (
            f"{100 * starting:.0f} % of the computing is waiting for one kernel to begin after the other: "
            "micro-batches are small for such a device, and larger ones would take hardly longer."
        )


def _starting(chosen: Ranked, job: Job, cluster: Cluster) -> float:
    """The share of computing that does not depend on how much there is to compute."""
    layout = chosen.candidate.layout
    counts = demand(job.config, job.typical_shape, Cut(layout.tp, layout.sp))
    seconds = cluster.rates.passes[chosen.candidate.precision].by_kind(counts)
    return sum(seconds[kind] for kind in _BEGUN) / sum(seconds.values())


def _why(found: Found, cluster: Cluster) -> Iterator[str]:
    chosen = found.chosen
    own = chosen.candidate.layout
    others = [
        each
        for each in found.ranked
        if each.same_answer == chosen.same_answer
        and each.candidate.layout.world_size == own.world_size
        and each.candidate.layout.degrees != own.degrees
    ]
    if not others and own.world_size > 1:
        yield "Nothing else that learns the same can be run on so many."
    for second in others[:1]:
        ratio = second.value(found.objective) / chosen.value(found.objective)
        if ratio < 1 + NEAR:
            yield (
                f"{second.candidate.layout} on as many {cluster.unit}s is as good to within the error of a "
                "prediction; this way is the simpler one."
            )
        else:
            kind, more = max(
                (
                    (kind, second.step.by_kind[kind] - chosen.step.by_kind[kind])
                    for kind in chosen.step.by_kind
                ),
                key=lambda each: each[1],
            )
            yield (
                f"The next best way to use as many {cluster.unit}s, {second.candidate.layout}, takes "
                f"{ratio:.2f} times as much: a step has {seconds(more)} more of {_WORDS[kind]}."
            )
    better = [each for each in found.ranked if not each.same_answer]
    if chosen.same_answer and better:
        best = better[0]
        gain = chosen.value(found.objective) / best.value(found.objective)
        if gain > 1 + NEAR:
            number = count(best.candidate.layout.world_size, cluster.unit)
            yield (
                f"On {number}, {best.candidate} would be {gain:.2f} times as good, but it learns something "
                "else than the recipe says: try its word error rate before, and take it with --any-answer."
            )


def _memory(found: Found, cluster: Cluster) -> Iterator[str]:
    need = found.chosen.memory.total
    yield (
        f"The fullest {cluster.unit} holds {size(need)} of tensors, "
        f"{size(found.chosen.memory.activations)} of them kept for the backward "
        f"pass; it has {size(cluster.memory_bytes)}."
    )
    too_large = [each for each in found.refused if "GB" in each.reason]
    if too_large:
        first = too_large[0]
        yield f"{count(len(too_large), 'way')} did not fit: for {first.candidate}, {first.reason}."


def _what_would_help(found: Found, job: Job, cluster: Cluster) -> Iterator[str]:
    chosen = found.chosen
    shares = {kind: taken / chosen.step.seconds for kind, taken in chosen.step.by_kind.items()}
    groups, number = chosen.candidate.layout.num_groups, chosen.candidate.micro_batches_per_step
    idle = [each for each in found.refused if each.reason.startswith("some workers would have nothing")]
    most = max((each.candidate.layout.num_groups for each in idle), default=0)
    if most > number:
        yield (
            f"A step has {count(number, 'micro-batch', 'micro-batches')}, so that no more copies than that "
            f"have work: batch.micro_batches_per_step={most} with a smaller batch.seconds would let {most} "
            "learn at once, but cuts steps otherwise than the recipe does."
        )
    if shares["communication"] > 0.15:
        yield "A faster network would help, or a strategy that sends less (local_sgd, or a compression)."
    if shares["wait"] > 0.05 and number < 4 * groups:
        yield (
            f"{count(number, 'micro-batch', 'micro-batches')} cannot be dealt evenly to {groups} copies; a "
            "multiple of four times as many in a step would be fairer (batch.micro_batches_per_step; it "
            "changes what a step learns from)."
        )
    if shares["bubble"] > 0.1:
        yield "More micro-batches in a step would fill the pipeline better."
    if shares["data"] > 0.1:
        yield "Reading is dear: shards (hocket prepare --shards) or kept features (loading.cache_mb) help."
    if shares["compute"] > 0.8:
        yield "A step is nearly all computing: a faster network or disk would change little."


def _split(layout: Layout, axis: str) -> bool:
    return int(getattr(layout, axis)) > 1


def count(number: int, what: str, many: str | None = None) -> str:
    """``1 core``, ``2 cores``."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def size(num_bytes: float) -> str:
    """Bytes as people say them."""
    return f"{num_bytes / 1e9:,.3g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.0f} MB"


def seconds(taken: float) -> str:
    """Of a step: 8.39 ms, 1.25 s."""
    return f"{taken:.2f} s" if taken >= 1 else f"{1000 * taken:.3g} ms"


def hours(taken: float) -> str:
    """Of a run: 36 s, 2.4 minutes, 14 minutes, 3.1 hours, 12 days."""
    if taken < 120:
        return f"{taken:.0f} s"
    if taken < 7200:
        return f"{taken / 60:.1f} minutes" if taken < 600 else f"{taken / 60:.0f} minutes"
    return f"{taken / 3600:.1f} hours" if taken < 72 * 3600 else f"{taken / 86400:.1f} days"
