"""The study: what is finished stays, what is not is run, and the results are written after every cell."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hocket.comms.links import LOOPBACK, Link, why_not
from hocket.comms.supervision import FolderLock
from hocket.core import clock, files
from hocket.core import recipe as recipes
from hocket.core.errors import HocketError, RunError, UsageError
from hocket.core.events import Event
from hocket.corpus.report import read_corpus
from hocket.hardware.device import describe
from hocket.recognition.report import JobProgress
from hocket.reports.scale import Study, page
from hocket.studies.scale import cell, derived, running
from hocket.studies.scale.derived import Finished
from hocket.studies.scale.estimate import expected_seconds, pace_of
from hocket.studies.scale.grid import SHOWN, Grid, Point, expand
from hocket.studies.scale.settings import StudySettings

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Watch:
    """What is told while a study runs."""

    say: Callable[[str], None]
    cells: Callable[[int, int, str], None]
    """Cells done, of all, and the one under way."""
    training: Callable[[Event], None]
    recognising: Callable[[JobProgress], None]


@dataclass(frozen=True)
class Planned:
    """A cell, and what is known of it before it is run."""

    label: str
    folder: Path
    done: bool
    expected_seconds: float
    """0 for one that is done."""


@dataclass(frozen=True)
class StudyPlan:
    """What a study would do."""

    cells: tuple[Planned, ...]
    notes: tuple[str, ...]

    @property
    def expected_seconds(self) -> float:
        """Of all that is not done."""
        return sum(each.expected_seconds for each in self.cells)


@dataclass(frozen=True)
class StudyReport:
    """What a study came to."""

    folder: Path
    scale_json: Path
    page: Path
    study: Study
    num_earlier: int
    """Cells that were finished before this call."""


def plan(recipe: Path, out: Path, settings: StudySettings) -> StudyPlan:
    """The cells of a study and about how long they will take; runs nothing but a few micro-batches.

    Raises what :func:`scale` raises before it runs anything.
    """
    grid = _checked(recipe, settings)
    measured = [cell.read(_folder(out, point), point.fingerprint) for point in grid.points]
    scores = [cell.read_score(_folder(out, point), grid.split) for point in grid.points]
    pace = pace_of(
        [each for each in measured if each is not None],
        [each for each in scores if each is not None],
        grid.points[0].recipe,
    )
    cells = []
    for point, found, score in zip(grid.points, measured, scores, strict=True):
        left = 0.0 if found is not None else expected_seconds(point, pace)
        if found is not None and point.score and score is None:
            left = pace.scoring
        cells.append(Planned(point.label, _folder(out, point), left == 0.0, left))
    return StudyPlan(tuple(cells), grid.notes)


def scale(recipe: Path, out: Path, settings: StudySettings, watch: Watch) -> StudyReport:
    """Run what is not finished of a study in the folder ``out``, and write its results there.

    As far as the budget goes, if there is one. A cell that fails is listed, and the others are run; the same
    call tries it again. Raises :class:`UsageError` before anything is run where a recipe, a strategy or a
    link cannot be, and :class:`RunError` with status 130 when it is interrupted: what is finished is kept.
    """
    grid = _checked(recipe, settings)
    with FolderLock(out, "study"):
        files.write_text(out / "study.yaml", recipes.dump(settings))
        runner = _Runner(recipe, out, settings, grid, watch)
        num_earlier = runner.take_up()
        if num_earlier:
            watch.say(f"{num_earlier:,} of {len(grid.points):,} cells were finished before")
        try:
            runner.run()
        except (running.Interrupted, KeyboardInterrupt):
            done = runner.write()
            stopped = RunError(
                f"{out}: interrupted; {len(done.study.cells):,} of {len(grid.points):,} cells are finished",
                "The same command goes on with the others.",
            )
            stopped.exit_code = EXIT_INTERRUPTED
            raise stopped from None
        return runner.write()


class _Runner:
    """A study under way."""

    def __init__(self, recipe: Path, out: Path, settings: StudySettings, grid: Grid, watch: Watch) -> None:
        self._recipe, self._out, self._settings, self._grid = recipe, out, settings, grid
        self._watch = watch
        self._finished: dict[str, Finished] = {}
        self._failed: dict[str, str] = {}
        self._num_earlier = 0

    def take_up(self) -> int:
        """Read what is finished; how many cells that is."""
        for point in self._grid.points:
            measured = cell.read(_folder(self._out, point), point.fingerprint)
            if measured is not None and not _to_score(self._out, point, self._grid.split):
                self._keep(point)
        self._num_earlier = len(self._finished)
        return self._num_earlier

    def run(self) -> None:
        """Run the others, in order."""
        began = clock.monotonic()
        for point in self._grid.points:
            if point.fingerprint in self._finished:
                continue
            if not self._affordable(point, clock.monotonic() - began):
                self._watch.say(f"the budget of {self._settings.budget_minutes:g} minutes is used up")
                break
            self._tell(point.label)
            try:
                self._one(point)
            except HocketError as error:
                self._failed[point.label] = str(error)
                self._watch.say(f"{point.label}: failed: {error}")
                continue
            self._keep(point)
            self.write()
        self._tell("")

    def _affordable(self, point: Point, spent: float) -> bool:
        budget, finished = self._settings.budget_minutes, list(self._finished.values())
        if budget is None or not finished:
            return True
        scores = [each.scored for each in finished if each.scored is not None]
        pace = pace_of([each.measured for each in finished], scores, point.recipe)
        return spent + expected_seconds(point, pace) <= 60 * budget

    def write(self) -> StudyReport:
        """Write ``scale.json`` and the page, as the study stands."""
        finished = [
            self._finished[point.fingerprint]
            for point in self._grid.points
            if point.fingerprint in self._finished
        ]
        target, why = derived.target_of(finished, self._settings.target_loss)
        corpus = read_corpus(self._grid.corpus)
        study = Study(
            recipe=self._recipe.name,
            corpus=str(corpus["name"]),
            split=self._grid.split,
            machine=describe(),
            num_planned=len(self._grid.points),
            cells=derived.cells_of(finished, derived.baseline_rate(finished), target),
            parity=derived.parities(finished),
            target_loss=target,
            target_why=why,
            notes=self._grid.notes,
            failed=tuple(self._failed.items()),
        )
        report = StudyReport(
            self._out, self._out / "scale.json", self._out / "report.html", study, self._num_earlier
        )
        files.write_json(report.scale_json, [asdict(row) for row, _ in study.cells])
        files.write_text(report.page, page(study))
        return report

    def _one(self, point: Point) -> None:
        folder, watch = _folder(self._out, point), self._watch
        if cell.read(folder, point.fingerprint) is None:
            began = clock.monotonic()
            measured = running.train(point, folder, watch.training)
            watch.say(
                f"{point.label}: loss {measured.loss:.3f} after {measured.wall_seconds:.0f} s of steps "
                f"({clock.monotonic() - began:.0f} s in all)"
            )
        if _to_score(self._out, point, self._grid.split):
            workers = min(point.workers, os.cpu_count() or 1)
            found = running.score(folder, self._grid.corpus, self._grid.split, workers, watch.recognising)
            watch.say(f"{point.label}: WER {100 * found.wer:.1f} %")

    def _keep(self, point: Point) -> None:
        folder = _folder(self._out, point)
        measured = cell.read(folder, point.fingerprint)
        assert measured is not None
        self._finished[point.fingerprint] = Finished(
            point, measured, cell.read_score(folder, self._grid.split)
        )

    def _tell(self, now: str) -> None:
        self._watch.cells(len(self._finished) + len(self._failed), len(self._grid.points), now)


def _checked(recipe: Path, settings: StudySettings) -> Grid:
    grid = expand(recipe, settings)
    links = sorted({point.link for point in grid.points if point.link != LOOPBACK})
    for link in links:
        Link.parse(link)
    reason = why_not() if links else None
    if reason is not None:
        raise UsageError(f"--links {','.join(links)}: {reason}", "Leave --links out, or say loopback.")
    return grid


def _folder(out: Path, point: Point) -> Path:
    """The folder of a cell; also of one that another study here calls by another name."""
    cells = out / "cells"
    named = cells / point.folder
    alike = [] if named.exists() else sorted(cells.glob(f"*-{point.fingerprint[:SHOWN]}"))
    return alike[0] if alike else named


def _to_score(out: Path, point: Point, split: str) -> bool:
    return point.score and cell.read_score(_folder(out, point), split) is None


def as_answer(found: StudyReport) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "folder": found.folder,
        "scale_json": found.scale_json,
        "report": found.page,
        "num_cells": len(found.study.cells),
        "num_planned": found.study.num_planned,
        "num_earlier": found.num_earlier,
        "failed": dict(found.study.failed),
        "target_loss": found.study.target_loss,
        "parity": found.study.parity,
    }
