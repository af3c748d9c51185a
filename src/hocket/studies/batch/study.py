"""A study of batch sizes from its first run to its page."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.comms.supervision import FolderLock
from hocket.core import clock, files
from hocket.core.errors import HocketError, RunError
from hocket.hardware.device import describe
from hocket.reports.axes import duration
from hocket.studies.batch import running
from hocket.studies.batch.grid import BatchStudy, Cell, Grid, expand
from hocket.studies.batch.knee import Knee, Size, find_knee, sizes, target_of
from hocket.studies.batch.page import draw
from hocket.studies.batch.running import Measured
from hocket.studies.scale.running import Interrupted
from hocket.studies.scale.study import EXIT_INTERRUPTED, Watch

JSON, PAGE = "batch.json", "batch.html"


@dataclass(frozen=True)
class BatchReport:
    """What a study found so far."""

    recipe: str
    rule: str
    """The recommended one."""
    workers: int
    num_cells: int
    num_planned: int
    micro_batches_per_step: int
    knee: Knee
    sizes: list[Size]
    runs: list[Measured]
    failed: dict[str, str]
    """Runs that came to no end, by label, and why."""
    split: str
    machine: dict[str, Any]
    page: Path


def study_batch(recipe: Path, out: Path, study: BatchStudy, watch: Watch) -> BatchReport:
    """Run what is not run yet, as far as the budget goes; write ``batch.json`` and ``batch.html``.

    A run that fails is listed, and the others are run; the same call tries it again. Raises
    :class:`~hocket.core.errors.UsageError` for a study that cannot be, and :class:`RunError` when no run came
    to its end, and with status 130 when it is interrupted: what is finished is kept.
    """
    grid, began = expand(recipe, study), clock.monotonic()
    found: list[Measured] = []
    failed: dict[str, str] = {}
    report: BatchReport | None = None
    with FolderLock(out, "study"):
        for cell in grid.cells:
            folder = out / "cells" / cell.folder
            measured = running.read(folder, cell.fingerprint)
            if measured is None:
                watch.cells(len(found) + len(failed), len(grid.cells), cell.label)
                if not _affordable(study, found, clock.monotonic() - began):
                    watch.say(f"the budget of {study.budget_minutes:g} minutes is used up")
                    break
                try:
                    measured = _run(cell, folder, grid, study.workers, watch)
                except (Interrupted, KeyboardInterrupt):
                    raise _interrupted(out, len(found), len(grid.cells)) from None
                except HocketError as error:
                    failed[cell.label] = str(error)
                    watch.say(f"{cell.label}: failed: {error}")
            if measured is not None:
                found.append(measured)
            if found:
                report = _report(recipe, study, grid, found, failed, out)
    if report is None:
        label, why = next(iter(failed.items()))
        raise RunError(f"{out}: no run came to its end; {label}: {why}")
    return report


def _interrupted(out: Path, num_done: int, num_cells: int) -> RunError:
    stopped = RunError(
        f"{out}: interrupted; {num_done} of {num_cells} runs are finished",
        "The same command goes on with the others.",
    )
    stopped.exit_code = EXIT_INTERRUPTED
    return stopped


def _run(cell: Cell, folder: Path, grid: Grid, workers: int, watch: Watch) -> Measured:
    measured = running.run(cell, folder, grid.corpus, grid.split, workers, watch.training, watch.recognising)
    watch.say(
        f"{cell.label}: loss {measured.losses[-1]:.3f}, WER {100 * measured.wer:.1f} % "
        f"({duration(measured.took_seconds)})"
    )
    return measured


def _affordable(study: BatchStudy, found: list[Measured], spent: float) -> bool:
    if study.budget_minutes is None or not found:
        return True
    next_one = sum(each.took_seconds for each in found) / len(found)
    return spent + next_one <= 60 * study.budget_minutes


def _report(
    recipe: Path, study: BatchStudy, grid: Grid, found: list[Measured], failed: dict[str, str], out: Path
) -> BatchReport:
    target = target_of(found)
    of_sizes = sizes(found, target)
    rule = study.rules[0]
    report = BatchReport(
        recipe=recipe.name,
        rule=rule,
        workers=study.workers,
        num_cells=len(found),
        num_planned=len(grid.cells),
        micro_batches_per_step=grid.base.batch.micro_batches_per_step,
        knee=find_knee(found, of_sizes, rule, target),
        sizes=of_sizes,
        runs=found,
        failed=dict(failed),
        split=grid.split,
        machine=describe(),
        page=out / PAGE,
    )
    files.write_json(out / JSON, {**asdict(report), "page": str(report.page)})
    files.write_text(report.page, draw(report))
    return report
