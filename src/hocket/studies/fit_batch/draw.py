"""What fits, as a table."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import RenderableType

from hocket.reports.axes import duration, number
from hocket.reports.tables import Row, facts
from hocket.studies.fit_batch.search import FitReport


def draw(report: FitReport, recipe: Path, given: Sequence[str] = ()) -> RenderableType:
    """The settings found, and how they were found; ``given`` are those that lay over the recipe."""
    largest = report.largest
    tried = ", ".join(f"{number(t.size)} s {'fits' if t.fits else 'does not'}" for t in report.trials)
    settings = [word for each in (*given, *report.settings) for word in ("--set", each)]
    words = [report.recipe] if report.recipe else [recipe, *settings]
    pieces = f"{report.micro_batches_per_step} micro-batches"
    rows: list[Row] = [
        ("step", f"{number(report.batch_seconds)} s of audio in {pieces}{_rate(report)}"),
        ("micro-batch", f"{number(report.micro_batch_seconds)} s of audio in the mean"),
        ("its largest", f"{largest.num_utterances} utterances of {largest.num_frames / 100:g} s"),
        ("memory", f"{report.predicted_mb:.0f} MiB predicted, {report.limit_mb} allowed"),
        ("held beside it", f"{report.held_mb:.0f} MiB"),
        ("tried", tried),
        ("took", duration(report.seconds)),
        ("written", None if report.recipe is None else str(report.recipe)),
        ("train with", shlex.join(["hocket", "train", *map(str, words)])),
    ]
    return facts(rows, "hocket fit-batch")


def _rate(report: FitReport) -> str:
    if report.batch_seconds == report.given_seconds:
        return ""
    return f", in place of {number(report.given_seconds)} s: see optimiser.lr_rule"
