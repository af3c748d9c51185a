"""Looking for the way that pays: predict every candidate, refuse what cannot be, rank the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hocket.core.errors import UsageError
from hocket.core.layout import Layout
from hocket.parallel.check import check
from hocket.parallel.precision import Precision
from hocket.planning.candidate import Candidate, Cluster, Job
from hocket.planning.enumerate import Asked, all_candidates
from hocket.planning.memory import RankMemory, rank_memory, settle
from hocket.planning.objective import Objective, Refused, check_objective
from hocket.planning.predict import Inside, predict_step, run_inside
from hocket.planning.step_time import StepTime
from hocket.sync.leased import LeasedSettings

JobOf = Callable[[int], Job]
"""The job when a step is cut into so many micro-batches."""

ROOM = 0.9
"""Part of a device's memory that a plan may fill: allocators and fragments take the rest."""
NEAR = 0.03
"""Candidates this near to each other are not told apart by a prediction: the simplest of them is taken."""


@dataclass(frozen=True)
class Ranked:
    """A candidate that runs, and what it is predicted to take."""

    candidate: Candidate
    step: StepTime
    memory: RankMemory
    """Of the rank that needs most."""
    run_seconds: float
    """Of all steps of the run."""
    audio_per_second: float
    dollars: float | None
    """Of the run; None where devices have no price."""
    kilowatt_hours: float | None
    same_answer: bool
    """The recipe's own precision, strategy and micro-batches: it learns what the recipe says. Others change
    the arithmetic, and are worth it only if their word errors are."""

    def value(self, objective: Objective) -> float:
        """What is to be small."""
        found = {"time": self.run_seconds, "cost": self.dollars, "energy": self.kilowatt_hours}[objective]
        assert found is not None
        return found


@dataclass(frozen=True)
class Found:
    """All candidates of a search, the best first."""

    objective: Objective
    ranked: tuple[Ranked, ...]
    refused: tuple[Refused[Candidate], ...]
    chosen: Ranked
    """The best of those that learn what the recipe says, or of all where the search was told so; where
    others are within :data:`NEAR` of it the simplest of them."""

    @property
    def by_workers(self) -> tuple[Ranked, ...]:
        """The best of each number of workers, ascending, of those that learn the same as the chosen one."""
        best: dict[int, Ranked] = {}
        for each in self.ranked:
            if each.same_answer or not self.chosen.same_answer:
                best.setdefault(each.candidate.layout.world_size, each)
        best[self.chosen.candidate.layout.world_size] = self.chosen
        return tuple(best[number] for number in sorted(best))


def search(
    job_of: JobOf,
    asked: Asked,
    cluster: Cluster,
    workers: Sequence[int],
    objective: Objective = "time",
    *,
    exact: bool = False,
    any_answer: bool = False,
    told: Callable[[int, int], None] = lambda done, of: None,
) -> Found:
    """Predict every candidate of every number of ``workers``, and rank them by ``objective``.

    ``exact`` is the recipe's numerics.exact; ``any_answer`` lets the choice fall on candidates that learn
    something else; ``told`` hears how many of how many candidates are done. Raises :class:`UsageError` when
    the objective has no figures, or no candidate is left, with the reasons.
    """
    check_objective(objective, cluster.name, cluster.price_per_hour, cluster.watts)
    candidates = [candidate for number in workers for candidate in all_candidates(asked, number)]
    ranked: list[Ranked] = []
    refused: list[Refused[Candidate]] = []
    known: Known = {}
    fitting: set[object] = set()
    for done, candidate in enumerate(candidates):
        told(done, len(candidates))
        if _whole(candidate) in fitting:  # recomputing only costs where the same fits without
            continue
        try:
            _check_busy(candidate)
            ranked.append(consider(job_of, asked, candidate, cluster, exact=exact, known=known))
            fitting.add(_whole(candidate))
        except UsageError as error:
            refused.append(Refused(candidate, error.message))
    told(len(candidates), len(candidates))
    ranked.sort(key=lambda each: (each.value(objective), str(each.candidate)))
    allowed = [each for each in ranked if any_answer or each.same_answer]
    if not allowed:
        reasons = list(dict.fromkeys(each.reason for each in refused))[:3]
        raise UsageError(
            f"no way of running this recipe fits {cluster.name}: {'; '.join(reasons)}",
            "Lower batch.seconds or raise batch.micro_batches_per_step, or plan for larger devices or more.",
        )
    return Found(objective, tuple(ranked), tuple(refused), _simplest(allowed, objective))


def _check_busy(candidate: Candidate) -> None:
    """Raise :class:`UsageError` where some workers would have no micro-batch in any step."""
    groups, number = candidate.layout.num_groups, candidate.micro_batches_per_step
    if groups > number and not isinstance(candidate.sync, LeasedSettings):
        raise UsageError(
            f"some workers would have nothing to do: a step has {number} micro-batches for {groups} groups"
        )


def _simplest(allowed: Sequence[Ranked], objective: Objective) -> Ranked:
    """Of those that are as good as the first: fewest workers, then copies of the model and nothing else."""
    most = allowed[0].value(objective) * (1 + NEAR)

    def effort(each: Ranked) -> tuple[object, ...]:
        layout = each.candidate.layout
        split = sum(degree > 1 for degree in layout.degrees) - (layout.dp_replicate > 1)
        own = not each.same_answer, layout.schedule != "1f1b", layout.recompute != "none", layout.reshard
        return layout.world_size, split, *own, each.value(objective)

    return min((each for each in allowed if each.value(objective) <= most), key=effort)


Known = dict[tuple[Layout, Precision, int], Inside]


def consider(
    job_of: JobOf,
    asked: Asked,
    candidate: Candidate,
    cluster: Cluster,
    *,
    exact: bool = False,
    known: Known | None = None,
) -> Ranked:
    """Predict one candidate; raises :class:`UsageError` with the reason when it cannot be.

    ``known`` keeps what candidates of one layout and precision have in common.
    """
    job = job_of(candidate.micro_batches_per_step)
    check(candidate.layout, job.config)
    candidate = settle(job, candidate)
    layout, sync = candidate.layout, candidate.sync
    if isinstance(sync, LeasedSettings) and layout.replica_size > 1:
        raise UsageError(f"with sync.name {sync.name} each worker holds a whole model")
    if exact and (layout.tp > 1 or layout.sp > 1 or not sync.exact_instead):
        raise UsageError("numerics.exact goes with dp_replicate, dp_shard and pp, and plain all_reduce alone")
    if layout.world_size > cluster.num_devices:
        raise UsageError(f"{layout.world_size} workers, and {cluster.name} has {cluster.num_devices} devices")
    memory = rank_memory(job, candidate)
    there = ROOM * _memory_of_worker(cluster, layout.world_size)
    if memory.total + cluster.base_bytes > there:
        raise UsageError(
            f"a rank needs {(memory.total + cluster.base_bytes) / 1e9:.1f} GB, and a worker here can have "
            f"{there / 1e9:.1f} GB"
        )
    known = {} if known is None else known
    key = layout, candidate.precision, candidate.micro_batches_per_step
    if key not in known:
        known[key] = run_inside(job, layout, candidate.precision, cluster)
    step = predict_step(job, candidate, cluster, inside=known[key])
    run_seconds = step.seconds * job.num_steps
    device_hours = layout.world_size * run_seconds / 3600
    return Ranked(
        candidate,
        step,
        memory,
        run_seconds,
        job.audio_per_step / step.seconds,
        None if cluster.price_per_hour is None else device_hours * cluster.price_per_hour,
        None if cluster.watts is None else device_hours * cluster.watts / 1000,
        same_answer=candidate.precision == asked.precision
        and candidate.sync == asked.sync
        and candidate.micro_batches_per_step == asked.micro_batches_per_step,
    )


def _memory_of_worker(cluster: Cluster, workers: int) -> float:
    """Bytes of a device; where workers share the host's memory, their part of it."""
    if cluster.device == "cpu":
        return cluster.memory_bytes * cluster.per_host / min(cluster.per_host, workers)
    return cluster.memory_bytes


def _whole(candidate: Candidate) -> object:
    """What candidates share that differ in nothing but recomputation."""
    return replace(candidate, layout=replace(candidate.layout, recompute="none"))
