"""What fits, as a table."""

from __future__ import annotations

from pathlib import Path

from rich.console import RenderableType

from hocket.reports.axes import duration, number
from hocket.reports.tables import Row, facts
from hocket.studies.fit_batch.search import FitReport


def draw(report: FitReport, recipe: Path) -> RenderableType:
    """The settings found, and how they were found."""
    largest = report.largest
    tried = ", ".join(f"{number(t.size)} s {'fits' if t.fits else 'does not'}" for t in report.trials)
    options = " ".join(f"--set {setting}" for setting in report.settings)
    rows: list[Row] = [
        ("micro-batch", f"{number(report.micro_batch_seconds)} s of audio in the mean"),
        ("its largest", f"{largest.num_utterances} utterances of {largest.num_frames / 100:g} s"),
        ("memory", f"{report.predicted_mb:.0f} MiB predicted, {report.limit_mb} allowed"),
        ("held beside it", f"{report.held_mb:.0f} MiB"),
        ("tried", tried),
        ("took", duration(report.seconds)),
        ("written", None if report.recipe is None else str(report.recipe)),
        ("train with", f"hocket train {report.recipe or recipe}{'' if report.recipe else ' ' + options}"),
    ]
    return facts(rows, "hocket fit-batch")
