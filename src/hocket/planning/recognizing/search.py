"""Looking for the cheapest way to recognise as fast as is wanted: forecast, refuse what cannot be, rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from hocket.core.errors import UsageError
from hocket.model.config import ModelConfig
from hocket.planning.enumerate import worker_counts
from hocket.planning.objective import Objective, Refused, check_objective, check_price
from hocket.planning.recognizing.candidate import Candidate, Found, Goal, Ranked
from hocket.planning.recognizing.forecast import Site, latency, throughput
from hocket.planning.recognizing.memory import WorkerMemory, worker_memory
from hocket.planning.recognizing.rates import WAYS, Way
from hocket.planning.recognizing.speech import Speech
from hocket.planning.search import NEAR, ROOM

BATCH_SECONDS = (10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0)
"""Padded audio of a micro-batch."""
MOST_WORKERS = 65_536


def search(
    config: ModelConfig,
    speech: Speech,
    sites: Sequence[Site],
    goal: Goal,
    objective: Objective = "time",
    *,
    workers: int | None = None,
    ways: Sequence[Way] = WAYS,
    any_text: bool = False,
    why_not: Callable[[Way], str | None] = lambda way: None,
) -> Found:
    """Forecast every way, micro-batch and number of workers on all ``sites``, and rank them.

    With a speed that is wanted, of each way the fewest workers that reach it. ``workers`` fixes their number;
    ``any_text`` lets the choice fall on ways that cost words; ``why_not`` says why a model cannot be
    recognised in a way. Raises :class:`UsageError` when nothing does what is wanted, with the reasons.
    """
    _check(sites, objective, goal)
    ranked: list[Ranked] = []
    refused: list[Refused[Candidate]] = []
    sizes: Sequence[float | None] = BATCH_SECONDS if goal.latency is None else (None,)
    for site in sites:
        for way in ways:
            reason = why_not(way) or (site.lacking or {}).get(way)
            if reason is None and way not in site.rates.encoding:
                reason = f"{site.name} has no units for {way.precision}"
            if reason is not None:
                refused.append(Refused(Candidate(site, way, sizes[0], workers or 1), reason))
                continue
            for size in sizes:
                _try(config, speech, Candidate(site, way, size, 1), goal, workers, ranked, refused)
    ranked.sort(key=lambda each: (each.value(objective, goal), str(each.candidate)))
    allowed = [each for each in ranked if any_text or each.candidate.way.same_text]
    if not allowed:
        raise UsageError(
            f"nothing does what is wanted: {'; '.join(_reasons(refused, bool(ranked)))}",
            "Take --any-answer: bf16 and int8 do it, and may cost words."
            if ranked
            else "Want less, or plan for more and faster devices (--hardware, several times if you like).",
        )
    return Found(objective, goal, tuple(ranked), tuple(refused), _simplest(allowed, objective, goal))


def _check(sites: Sequence[Site], objective: Objective, goal: Goal) -> None:
    for site in sites:
        check_objective(objective, site.name, site.price_per_hour, site.watts)
        if goal.budget is not None:
            check_price("--budget", site.name, site.price_per_hour)


def _reasons(refused: Sequence[Refused[Candidate]], others: bool) -> list[str]:
    own = [each.reason for each in refused if each.candidate.way.same_text or not others]
    return list(dict.fromkeys(own or [each.reason for each in refused]))[:3]


def _try(
    config: ModelConfig,
    speech: Speech,
    least: Candidate,
    goal: Goal,
    workers: int | None,
    ranked: list[Ranked],
    refused: list[Refused[Candidate]],
) -> None:
    """Every number of workers that is worth a line, or the fewest that do what is wanted."""
    site = least.site
    most = site.num_devices or MOST_WORKERS
    too_large = _memory_refuses(config, speech, least)
    if too_large is not None:
        refused.append(Refused(least, too_large))
        return
    if workers is not None:
        numbers = [workers]
    elif goal.is_fast:
        numbers = [_fewest(config, speech, least, goal, most)]
    else:
        numbers = worker_counts(site.num_devices or 1)
    for number in numbers:
        candidate = replace(least, workers=number)
        reason = _memory_refuses(config, speech, candidate)
        made = consider(config, speech, candidate, goal)
        reason = reason or _falls_short(made, goal)
        if reason is None:
            ranked.append(made)
        else:
            refused.append(Refused(candidate, reason))


def consider(config: ModelConfig, speech: Speech, candidate: Candidate, goal: Goal) -> Ranked:
    """Forecast one candidate, whether or not it does what is wanted."""
    site, way, number = candidate.site, candidate.way, candidate.workers
    one_by_one = candidate.batch_seconds is None
    size = 1 / 100 if candidate.batch_seconds is None else candidate.batch_seconds
    found = throughput(config, speech.alone if one_by_one else speech, site, way, size, number)
    price = None if site.price_per_hour is None else number * site.price_per_hour
    job = found.job_seconds
    return Ranked(
        candidate,
        found,
        latency(config, speech, site, way, number, goal.rtfx or 0.0) if one_by_one else None,
        _memory(config, speech, candidate),
        price,
        None if price is None or job is None else price * job / 3600,
        None if price is None else 1000 * price / found.rtfx,
        None if site.watts is None else number * site.watts,
    )


def _fewest(config: ModelConfig, speech: Speech, least: Candidate, goal: Goal, most: int) -> int:
    """The least number of workers that does what is wanted; ``most`` where none does."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        if _falls_short(consider(config, speech, replace(least, workers=middle), goal), goal, False) is None:
            high = middle
        else:
            low = middle + 1
    return low


def _falls_short(made: Ranked, goal: Goal, of_money: bool = True) -> str | None:
    """Why a candidate is not what is wanted."""
    on = f"on {made.candidate.workers:,} {made.candidate.site.unit}s"
    if goal.latency is not None:
        if made.latency is None:
            return f"{on} {goal.rtfx:,.0f} s of speech a second come faster than they are recognised"
        if made.latency.seconds > goal.latency:
            return (
                f"{on} a text comes {1000 * made.latency.seconds:,.0f} ms after its utterance, and "
                f"{1000 * goal.latency:,.0f} ms are wanted"
            )
    elif goal.rtfx is not None and made.throughput.rtfx < goal.rtfx:
        return f"{on} it is {made.throughput.rtfx:,.0f} s of speech a second, and {goal.rtfx:,.0f} are wanted"
    job = made.throughput.job_seconds
    if goal.job_seconds is not None and job is not None and job > goal.job_seconds:
        return f"{on} the job takes {job / 3600:,.2f} hours, and {goal.job_seconds / 3600:,.2f} are wanted"
    if of_money and goal.budget is not None:
        paid = made.dollars if made.dollars is not None else made.dollars_an_hour
        if paid is not None and paid > goal.budget:
            return f"it costs ${paid:,.2f}, and the budget is ${goal.budget:,.2f}"
    return None


def _memory(config: ModelConfig, speech: Speech, candidate: Candidate) -> WorkerMemory:
    if candidate.batch_seconds is None:
        return worker_memory(config, candidate.way, 1, speech.longest)
    parts = speech.cut(candidate.batch_seconds)
    shapes = {(part.rows, part.frames) for part in parts}
    return max((worker_memory(config, candidate.way, *shape) for shape in shapes), key=lambda m: m.total)


def _memory_refuses(config: ModelConfig, speech: Speech, candidate: Candidate) -> str | None:
    site = candidate.site
    there = site.memory_bytes
    if site.device == "cpu":
        there *= site.per_host / min(site.per_host, candidate.workers)
    need = _memory(config, speech, candidate).total + site.base_bytes
    if need <= ROOM * there:
        return None
    return f"a worker needs {need / 1e9:.1f} GB, and here it can have {ROOM * there / 1e9:.1f} GB"


def _simplest(allowed: Sequence[Ranked], objective: Objective, goal: Goal) -> Ranked:
    """Of those as good as the first: the fewest workers, the plainest way, the smallest micro-batch."""
    most = allowed[0].value(objective, goal) * (1 + NEAR)

    def effort(each: Ranked) -> tuple[float, ...]:
        made = each.candidate
        size = math.inf if made.batch_seconds is None else made.batch_seconds
        return made.workers, WAYS.index(made.way), size, each.value(objective, goal)

    return min((each for each in allowed if each.value(objective, goal) <= most), key=effort)
