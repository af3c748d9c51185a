"""After a run: what was to be expected of it, beside what it took."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path

from hocket.core import clock, files
from hocket.core import recipe as recipes
from hocket.core.errors import UsageError
from hocket.core.events import surviving_steps
from hocket.hardware import profile
from hocket.hardware.device import choose_device
from hocket.planning import calibration
from hocket.planning.candidate import Candidate
from hocket.planning.memory import settle
from hocket.planning.predict import predict_step
from hocket.studies.planning import ledger
from hocket.studies.planning.jobs import RecipeJobs
from hocket.studies.planning.ledger import Entry
from hocket.studies.planning.machines import MACHINE, of_profile, rates_file
from hocket.sync import SyncBase
from hocket.training.folder import RunFolder
from hocket.training.recipe import TrainRecipe

FORECAST = "forecast.json"
"""In a run's folder."""

_WARM_UP = 3
"""Steps at the beginning of a run that are left out: kernels are prepared, caches filled."""


def beside(run: Path, cache: Path) -> Entry | None:
    """Say what the run in ``run`` was to take, and write it beside what it took: there, and into the ledger.

    None, and nothing is written, where this machine's rates were never measured, the run took too few
    steps to tell, or its workers went at their own pace.
    """
    folder = RunFolder(run)
    steps = surviving_steps(folder.events)[_WARM_UP:]
    if not steps or not (cache / MACHINE).exists() or not folder.summary.exists():
        return None
    summary = json.loads(folder.summary.read_text())
    recipe = recipes.load(folder.recipe, TrainRecipe)
    if not isinstance(recipe.sync, SyncBase):
        return None
    device = choose_device(recipe.device).type
    stored = rates_file(cache, device, recipe.threads)
    if not stored.exists():
        return None
    try:
        known, measured = profile.read(cache / MACHINE), calibration.read(stored)
    except UsageError:
        return None  # of another version: to be measured again, which is for `hocket plan`
    cluster = of_profile(known, measured.rates, device, recipe.threads, None, []).cluster
    jobs = RecipeJobs(recipe)
    cluster = replace(cluster, rates=replace(cluster.rates, loading=jobs.loading_seconds()))
    workers = int(summary["workers"])
    number = recipe.batch.micro_batches_per_step
    candidate = Candidate(recipe.layout.fill(workers), recipe.sync, recipe.precision, number)
    job = jobs.job_of(number)
    step = predict_step(job, settle(job, candidate), cluster)
    entry = Entry(
        time=clock.wall(),
        run=str(run),
        device=device,
        precision=recipe.precision,
        workers=workers,
        layout=str(candidate.layout),
        sync=candidate.sync_name,
        said=step.seconds,
        measured=statistics.median(sum(each["seconds"].values()) for each in steps),
        seconds=dict(step.by_kind),
    )
    files.write_json(run / FORECAST, asdict(entry))
    ledger.append(entry, cache)
    return entry
