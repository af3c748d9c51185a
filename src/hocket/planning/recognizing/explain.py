"""A plan of recognition in plain words: what to run, why so, what holds it back, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from hocket.model.config import ModelConfig
from hocket.planning.demand import KINDS
from hocket.planning.explain import count, hours, seconds, size
from hocket.planning.recognizing.candidate import Found, Ranked
from hocket.planning.recognizing.rates import counts_of
from hocket.planning.recognizing.speech import Speech
from hocket.planning.search import NEAR

_BEGUN = ("blocks", "micro_batch")


def explain(found: Found, config: ModelConfig, speech: Speech) -> list[str]:
    """Paragraphs, each of a few sentences."""
    parts = (
        _what(found, speech),
        _why(found),
        _where_time_goes(found.chosen, config, speech),
        _memory(found),
        _others(found),
    )
    return [" ".join(told) for told in map(list, parts) if told]


def _what(found: Found, speech: Speech) -> Iterator[str]:
    chosen, goal = found.chosen, found.goal
    made, fast = chosen.candidate, chosen.throughput
    each = "" if made.workers == 1 else ", each"
    where = f"{count(made.workers, 'worker')}{each} on a {made.site.unit} of its own"
    yield f"Run {where} ({made.site.name}), with {made.way}."
    if chosen.latency is None:
        yield (
            f"Micro-batches hold {made.batch_seconds:g} s of padded audio; together they recognise about "
            f"{fast.rtfx:,.0f} seconds of speech in a second."
        )
    else:
        yield (
            f"Every utterance is recognised by itself: of a hundred, 99 have their text within about "
            f"{1000 * chosen.latency.seconds:,.0f} ms of their end"
            + (
                f", {1000 * chosen.latency.waiting:,.0f} ms of it in line for a worker; workers are busy "
                f"{100 * chosen.latency.busy:.0f} % of the time."
                if goal.rtfx
                else "; nobody waits in line, since how many come was not said (--rtfx)."
            )
        )
    if fast.job_seconds is not None:
        yield (
            f"All {hours(3600 * (speech.hours or 0.0))} of speech take {hours(fast.job_seconds)}, "
            f"{seconds(made.site.rates.starting)} of it until workers are ready."
        )
    if chosen.dollars_an_hour is not None:
        job = "" if chosen.dollars is None else f"${chosen.dollars:,.2f} for all of it, "
        yield (
            f"It costs {job}${chosen.dollars_an_hour:,.2f} an hour"
            + (
                f", ${chosen.dollars_per_1000_hours:,.2f} for 1,000 hours of speech at full load."
                if chosen.dollars_per_1000_hours is not None
                else "."
            )
        )


def _why(found: Found) -> Iterator[str]:
    """What the next best way would take."""
    chosen, goal = found.chosen, found.goal
    own = chosen.candidate
    if goal.is_fast and found.objective == "time":
        what = "cheapest" if chosen.dollars_an_hour is not None else "least"
        yield f"It is the {what} that does what is wanted."
    others = [each for each in found.by_way if each is not chosen]
    alike = [each for each in others if each.candidate.way.same_text or not own.way.same_text]
    for second in alike[:1]:
        ratio = second.value(found.objective, goal) / chosen.value(found.objective, goal)
        name = f"{second.candidate.way} with {count(second.candidate.workers, second.candidate.site.unit)}"
        if second.candidate.site.name != own.site.name:
            name += f" of {second.candidate.site.name}"
        if ratio < 1 + NEAR:
            yield f"{name} is as good to within the error of a prediction; this way is the simpler one."
        else:
            yield f"The next best, {name}, takes {ratio:.2f} times as much."
    words = [each for each in others if not each.candidate.way.same_text]
    if own.way.same_text and words:
        best = words[0]
        gain = chosen.value(found.objective, goal) / best.value(found.objective, goal)
        if gain > 1 + NEAR:
            yield (
                f"{best.candidate.way} with {count(best.candidate.workers, best.candidate.site.unit)} would "
                f"be {gain:.2f} times as good, but it may cost words: measure that (hocket export --check, "
                "hocket score), and take it with --any-answer."
            )


def _where_time_goes(chosen: Ranked, config: ModelConfig, speech: Speech) -> Iterator[str]:
    made, by_kind = chosen.candidate, chosen.throughput.by_kind
    total = sum(by_kind.values())
    yield (
        f"A worker spends {1000 * total:.2g} ms on a second of speech: "
        f"{100 * by_kind['encoder'] / total:.0f} % encoder and search, "
        f"{100 * by_kind['reading'] / total:.0f} % reading and features that no computing hides."
    )
    if made.site.device != "cpu" and made.site.readers is None:
        cores = ceil(made.site.reading / by_kind["encoder"])
        yield f"To be fed, a device needs {count(cores, 'core')} that read, each as fast as one here."
    if made.batch_seconds is not None:
        largest = speech.cut(made.batch_seconds)[0]
        counts = counts_of(config, largest.rows, largest.frames)
        rates = made.site.rates.encoding[made.way]
        begun = sum(counts[KINDS.index(kind)] * rates[KINDS.index(kind)] for kind in _BEGUN)
        if begun > 0.4 * float(counts @ rates):
            yield "Much of that is starting kernels: larger micro-batches would take hardly longer."


def _memory(found: Found) -> Iterator[str]:
    memory, site = found.chosen.memory, found.chosen.candidate.site
    yield (
        f"A worker holds {size(memory.total)} of tensors, {size(memory.parameters)} of them the model, and "
        f"about {size(site.base_bytes)} of libraries; a {site.unit} has {size(site.memory_bytes)}."
    )


def _others(found: Found) -> Iterator[str]:
    """Why others were left out: the first reason of each way, those of the same reason together."""
    seen = {f"{each.candidate.way} on {each.candidate.site.name}" for each in found.ranked}
    names: dict[str, list[str]] = {}
    for each in found.refused:
        name = f"{each.candidate.way} on {each.candidate.site.name}"
        if name not in seen:
            names.setdefault(each.reason, []).append(name)
            seen.add(name)
    for reason, alike in list(names.items())[:4]:
        yield f"Left out: {', '.join(alike)}: {reason}."
