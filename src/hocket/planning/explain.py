"""A plan in plain words: what to run, why it is the fastest, what holds it back, and what would help."""

from __future__ import annotations

from collections.abc import Iterator

from hocket.planning.candidate import Cluster, Job
from hocket.planning.search import Found, Ranked

_WORDS = {
    "compute": "computing",
    "recompute": "computing again what did not fit the memory",
    "bubble": "ranks of the pipeline that have no work yet, or none any more",
    "wait": "waiting for the slowest replica",
    "communication": "sending that no computing hides",
    "optimiser": "the optimiser",
    "data": "reading and decoding audio",
}
_AXES = {
    "pp": "the model is cut into {} stages, one after the other (pp)",
    "dp_replicate": "{} copies of the model learn from different speech, and from each other (dp_replicate)",
    "dp_shard": "{} devices share the weights of one copy and fetch them when they are needed (dp_shard)",
    "sp": "{} devices share the frames of every utterance (sp)",
    "tp": "{} devices share every layer of the model (tp)",
}
_NEAR = 0.03
"""Candidates this near to each other are not told apart by a prediction."""


def explain(found: Found, job: Job, cluster: Cluster) -> list[str]:
    """Paragraphs, each of a few sentences."""
    return [
        " ".join(part)
        for part in (
            list(_what(found.chosen, cluster)),
            list(_where_time_goes(found.chosen)),
            list(_why(found)),
            list(_memory(found, cluster)),
            list(_what_would_help(found, job, cluster)),
        )
        if part
    ]


def _what(chosen: Ranked, cluster: Cluster) -> Iterator[str]:
    layout = chosen.candidate.layout
    workers = layout.world_size
    yield f"Run {_count(workers, 'worker')} on {cluster.name}:"
    said = [_AXES[axis].format(getattr(layout, axis)) for axis in _AXES if getattr(layout, axis) > 1]
    yield (", and ".join(said) or "one device holds the whole model and does all the work") + "."
    yield (
        f"A step takes {_seconds(chosen.step.seconds)}: {chosen.audio_per_second:,.0f} seconds of speech are "
        f"learnt from in a second, and the run takes {_hours(chosen.run_seconds)}."
    )
    if chosen.dollars is not None:
        yield f"At ${cluster.price_per_hour:,.2f} an hour for a device it costs about ${chosen.dollars:,.2f}."
    if chosen.kilowatt_hours is not None:
        yield f"It takes about {chosen.kilowatt_hours:,.1f} kWh."


def _where_time_goes(chosen: Ranked) -> Iterator[str]:
    total = chosen.step.seconds
    parts = sorted(chosen.step.by_kind.items(), key=lambda each: -each[1])
    told = [
        f"{100 * seconds / total:.0f} % {_WORDS[kind]}" for kind, seconds in parts if seconds > 0.01 * total
    ]
    yield f"Of a step's time {', '.join(told)}."


def _why(found: Found) -> Iterator[str]:
    chosen = found.chosen
    others = [
        each
        for each in found.ranked
        if each is not chosen
        and each.same_answer
        and each.candidate.layout.degrees != chosen.candidate.layout.degrees
    ]
    if not others:
        yield "Nothing else that learns the same fits."
        return
    second = others[0]
    ratio = second.value(found.objective) / chosen.value(found.objective)
    if ratio < 1 + _NEAR:
        yield f"{second.candidate.layout} is as good to within the error of a prediction: take either."
    else:
        kind, more = max(
            ((kind, second.step.by_kind[kind] - chosen.step.by_kind[kind]) for kind in chosen.step.by_kind),
            key=lambda each: each[1],
        )
        on = _count(second.candidate.layout.world_size, "worker")
        yield f"The next best, {second.candidate.layout} on {on}, takes {ratio:.2f} times as much"
        yield f"(a step has {_seconds(more)} more of {_WORDS[kind]})." if more > 0 else "(in all devices)."
    better = [each for each in found.ranked if not each.same_answer]
    if better and better[0].value(found.objective) < 0.97 * chosen.value(found.objective):
        best = better[0]
        gain = chosen.value(found.objective) / best.value(found.objective)
        yield (
            f"{best.candidate} would be {gain:.2f} times as good, but it changes the arithmetic of what is "
            "learnt: take it where its word error rate is known to be fine, with --any-answer."
        )


def _memory(found: Found, cluster: Cluster) -> Iterator[str]:
    chosen = found.chosen
    need = chosen.memory.total / 1e9
    yield (
        f"The fullest rank holds {need:.2f} GB of tensors, {chosen.memory.activations / 1e9:.2f} of them "
        "kept for the backward pass."
    )
    too_large = [each for each in found.refused if "GB" in each.reason]
    if too_large:
        first = too_large[0]
        yield f"{_count(len(too_large), 'candidate')} did not fit: of {first.candidate} {first.reason}."


def _what_would_help(found: Found, job: Job, cluster: Cluster) -> Iterator[str]:
    chosen = found.chosen
    shares = {kind: seconds / chosen.step.seconds for kind, seconds in chosen.step.by_kind.items()}
    groups = chosen.candidate.layout.num_groups
    if shares["communication"] > 0.15:
        yield "A faster network would help, or a strategy that sends less (local_sgd, or a compression)."
    if shares["wait"] > 0.05 and job.micro_batches_per_step < 4 * groups:
        yield (
            f"{job.micro_batches_per_step} micro-batches cannot be dealt evenly to {groups} groups: "
            f"batch.micro_batches_per_step {4 * groups} would be fairer."
        )
    if shares["bubble"] > 0.1:
        yield "More micro-batches in a step would fill the pipeline better."
    if shares["data"] > 0.1:
        yield "Reading is dear: shards (hocket prepare --shards) or kept features (loading.cache_mb) help."
    if shares["compute"] > 0.8:
        yield "Computing is what it waits for: more devices, or faster ones, help, and nothing else does."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def _hours(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
