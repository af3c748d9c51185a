"""From a recipe and hardware to a plan: what to run, how long it takes, why, and what else there was."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hocket.core import files
from hocket.core import recipe as recipes
from hocket.core.errors import UsageError
from hocket.core.layout import AXES, LayoutSettings
from hocket.planning import explain
from hocket.planning.candidate import Candidate, Cluster, Job
from hocket.planning.demand import Cut
from hocket.planning.enumerate import worker_counts
from hocket.planning.fabric import Placed
from hocket.planning.link_loads import link_loads, step_traffic
from hocket.planning.network.placement import Placement, place
from hocket.planning.objective import Objective
from hocket.planning.roofline import spots
from hocket.planning.scaling import Point, curve
from hocket.planning.search import Found, Ranked, consider, search
from hocket.studies.planning.jobs import RecipeJobs
from hocket.studies.planning.machines import Ground
from hocket.training.launch import resolve
from hocket.training.recipe import TrainRecipe

Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Plan:
    """All that is told of a search."""

    recipe: Path
    settled: TrainRecipe
    """The recipe as it was read, with its corpora found."""
    job: Job
    ground: Ground
    found: Found
    own: Ranked | None
    """The recipe as it stands, on as many workers as were chosen or its layout takes; None where that cannot
    be."""
    why_not_own: str | None
    words: tuple[str, ...]
    """In plain words."""
    scaling: tuple[Point, ...]
    placement: Placement | None = None
    """Where ranks go on the network; None on one host."""
    overrides: tuple[str, ...] = ()
    """Settings of the recipe that were given beside it."""

    @property
    def chosen(self) -> Ranked:
        """What the plan recommends."""
        return self.found.chosen

    @property
    def cluster(self) -> Cluster:
        """What it is for."""
        return self.ground.cluster


def plan(
    recipe: Path,
    ground: Callable[[str, int], Ground],
    *,
    workers: int | None = None,
    objective: Objective = "time",
    price: float | None = None,
    any_answer: bool = False,
    overrides: Sequence[str] = (),
    told: Told = lambda what, done, of: None,
) -> Plan:
    """Search for the best way of running ``recipe``.

    ``ground`` makes the hardware for a device (``auto``, ``cpu``, ``cuda``) and threads of a worker. Without
    a number of ``workers`` several are tried, up to all devices. ``price`` is what a device costs in an hour,
    in dollars, instead of what the hardware's profile says. Raises
    :class:`~hocket.core.errors.HocketError` for what the user can mend.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: a job needs at least one")
    if price is not None and not 0 < price < math.inf:
        raise UsageError(f"--price {price:g}: what a device costs in an hour is above 0")
    settled = resolve(recipe, overrides)
    jobs = RecipeJobs(settled)
    stands_on = ground(settled.device, settled.threads)
    loading = jobs.loading_seconds()
    cluster = stands_on.cluster
    cluster = replace(
        cluster,
        rates=replace(cluster.rates, loading=loading),
        price_per_hour=cluster.price_per_hour if price is None else price,
    )
    read = (
        "to read, decode and vary a second of this corpus' speech is taken to need "
        f"{1000 * loading:.2g} ms of a core, as was just measured here"
    )
    stands_on = replace(stands_on, cluster=cluster, notes=(*stands_on.notes, read))
    if workers is not None and workers > cluster.num_devices:
        raise UsageError(
            f"--workers {workers}: {cluster.name} has {cluster.num_devices} devices", "Give fewer, or none."
        )
    counts = [workers] if workers is not None else worker_counts(cluster.num_devices)
    found = search(
        jobs.job_of,
        jobs.asked,
        cluster,
        counts,
        objective,
        exact=settled.numerics.exact,
        any_answer=any_answer,
        told=lambda done, of: told("candidates", done, of),
    )
    job = jobs.job_of(found.chosen.candidate.micro_batches_per_step)
    found, placement = _placed(found, job, jobs, stands_on)
    number = max(settled.layout.least_workers, found.chosen.candidate.layout.world_size)
    own, why_not = None, None
    try:
        layout = settled.layout.fill(number)
        as_it_is = Candidate(layout, settled.sync, settled.precision, settled.batch.micro_batches_per_step)
        own = consider(jobs.job_of, jobs.asked, as_it_is, cluster, exact=settled.numerics.exact)
    except UsageError as error:
        why_not = error.message
    words = tuple(explain.explain(found, job, cluster))
    points = tuple(curve(job, found.chosen.candidate, stands_on.grow, cluster.per_host, stands_on.most))
    return Plan(
        recipe, settled, job, stands_on, found, own, why_not, words, points, placement, tuple(overrides)
    )


def _placed(found: Found, job: Job, jobs: RecipeJobs, ground: Ground) -> tuple[Found, Placement | None]:
    """Put the ranks of the chosen candidate where its sending is fastest, and predict it there."""
    candidate, network = found.chosen.candidate, ground.network
    if network is None:
        return found, None
    placement = place(network, candidate.layout, step_traffic(job, candidate))
    if placement.device_of == tuple(range(candidate.layout.world_size)):
        return found, placement
    there = replace(ground.cluster, fabric=Placed(ground.cluster.fabric, placement.device_of))
    chosen = consider(jobs.job_of, jobs.asked, candidate, there, exact=jobs.recipe.numerics.exact)
    ranked = tuple(chosen if each is found.chosen else each for each in found.ranked)
    return replace(found, ranked=ranked, chosen=chosen), placement


def write_recipe(recipe: TrainRecipe, chosen: Candidate, target: Path) -> None:
    """``recipe`` with the layout, strategy, precision and cut of ``chosen``, every setting written out."""
    layout = chosen.layout
    given = asdict(layout)
    batch = recipe.batch.model_copy(update={"micro_batches_per_step": chosen.micro_batches_per_step})
    laid_out = recipe.model_copy(
        update={
            "layout": LayoutSettings.model_validate(given),
            "sync": chosen.sync,
            "precision": chosen.precision,
            "batch": batch,
        }
    )
    head = f"# {chosen}: laid out by hocket plan\n# hocket train {target} --workers {layout.world_size}\n"
    files.write_text(target, head + recipes.dump(laid_out))


def as_answer(made: Plan) -> Mapping[str, Any]:
    """For ``--json``: everything with units in the names."""
    return {
        "recipe": str(made.recipe),
        "hardware": made.cluster.name,
        "network": made.cluster.fabric.name,
        "objective": made.found.objective,
        "chosen": _told(made.chosen),
        "hosts": made.cluster.hosts_of(made.chosen.candidate.layout.world_size),
        "devices_per_host": made.cluster.per_host,
        "devices": made.cluster.num_devices,
        "unit": made.cluster.unit,
        "price_per_hour": made.cluster.price_per_hour,
        "settings": list(made.overrides),
        "by_workers": [_told(each) for each in made.found.by_workers],
        "own": None if made.own is None else _told(made.own),
        "why_not_own": made.why_not_own,
        "candidates": [_told(each) for each in made.found.ranked],
        "refused": [{"candidate": str(each.candidate), "reason": each.reason} for each in made.found.refused],
        "scaling": [asdict(point) for point in made.scaling],
        "memory_there": made.cluster.memory_bytes,
        "roofline": _roofline(made),
        "placement": _placement(made),
        "topology": _topology(made),
        "explanation": list(made.words),
        "notes": list(made.ground.notes),
    }


def _told(each: Ranked) -> dict[str, Any]:
    candidate = each.candidate
    return {
        "layout": str(candidate.layout),
        "workers": candidate.layout.world_size,
        "degrees": dict(zip(AXES, candidate.layout.degrees, strict=True)),
        "sync": candidate.sync_name,
        "precision": candidate.precision,
        "micro_batches_per_step": candidate.micro_batches_per_step,
        "same_answer": each.same_answer,
        "step_seconds": each.step.seconds,
        "seconds": dict(each.step.by_kind),
        "bytes_per_step": dict(each.step.bytes_by_axis),
        "imbalance": each.step.imbalance,
        "bubble": each.step.bubble,
        "memory_bytes": {**asdict(each.memory), "total": each.memory.total},
        "run_seconds": each.run_seconds,
        "audio_per_second": each.audio_per_second,
        "dollars": each.dollars,
        "kilowatt_hours": each.kilowatt_hours,
    }


def _roofline(made: Plan) -> dict[str, Any] | None:
    candidate, peaks = made.chosen.candidate, made.cluster.peaks
    if candidate.precision not in peaks or "memory" not in peaks:
        return None
    layout = candidate.layout
    found = spots(
        made.job.config,
        candidate.precision,
        made.job.typical_shape,
        Cut(layout.tp, layout.sp),
        made.cluster.rates,
    )
    return {
        "name": f"one device in {candidate.precision}",
        "flops": peaks[candidate.precision],
        "bandwidth": peaks["memory"],
        "spots": [asdict(spot) for spot in found],
    }


def _placement(made: Plan) -> dict[str, Any] | None:
    """Which ranks run on which host, and why there."""
    if made.placement is None:
        return None
    per_host, hosts = made.cluster.per_host, dict[int, list[int]]()
    for rank, device in enumerate(made.placement.device_of):
        hosts.setdefault(device // per_host, []).append(rank)
    return {
        "order": list(made.placement.order),
        "as_numbered": made.placement.device_of == tuple(range(len(made.placement.device_of))),
        "ranks_of_host": {str(host): hosts[host] for host in sorted(hosts)},
        "why": made.placement.why,
    }


_MOST_DRAWN = 400
"""Nodes of a network that a picture can still show."""


def _topology(made: Plan) -> dict[str, Any] | None:
    network = made.ground.network
    if network is None or made.placement is None or len(network.graph.nodes) > _MOST_DRAWN:
        return None
    loads = link_loads(network, step_traffic(made.job, made.chosen.candidate), made.placement)
    busiest = max(loads, key=lambda load: load.seconds)
    return {
        "name": network.name,
        "nodes": [asdict(node) for node in network.graph.nodes],
        "links": [asdict(load) for load in loads],
        "busiest": busiest.name if busiest.seconds > 0 else None,
    }
