"""A study of batch sizes as a table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from hocket.reports.axes import number, percent
from hocket.reports.tables import Row, facts
from hocket.studies.batch.study import BatchReport


def draw(report: BatchReport) -> RenderableType:
    """Sizes and rules, then the knee and what the noise scale had said."""
    table = Table(title="hocket study batch", title_justify="left", title_style="bold")
    for column in ("step", "rule", "seeds", "steps", "WER", "95 %", "audio to target"):
        table.add_column(column, justify="left" if column == "rule" else "right")
    for size in report.sizes:
        audio = "not reached" if size.audio_to_target is None else f"{number(size.audio_to_target)} s"
        table.add_row(
            f"{number(size.batch_seconds)} s",
            size.rule,
            str(len(size.seeds)),
            f"{size.steps:,}",
            percent(size.wer),
            f"{100 * size.wer_low:.1f} to {100 * size.wer_high:.1f}",
            audio,
        )
    knee = report.knee
    rows: list[Row] = [
        ("runs", f"{report.num_cells} of {report.num_planned}"),
        ("the knee", _seconds(knee.seconds)),
        ("noise scale, early", _seconds(knee.noise_early)),
        ("noise scale, whole runs", _seconds(knee.noise_whole)),
        ("early over knee", None if knee.ratio is None else f"{knee.ratio:.2f}"),
        ("recommended rule", report.rule),
        ("pictures", str(report.page)),
        *[("failed", f"{label}: {why}") for label, why in report.failed.items()],
    ]
    return Group(table, facts(rows))


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{number(value)} s of audio a step"
