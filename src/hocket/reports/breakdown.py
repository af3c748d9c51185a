"""Tables of errors by word and by speaker, and of confidences."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hocket.decoding.breakdown import Breakdown
from hocket.recognition.confidence import ConfidenceReport
from hocket.reports.axes import number, percent
from hocket.reports.tables import facts

_HEARD = 6
"""What was heard instead of a word: that many different ones are named."""


def tables(
    first: RenderableType,
    details: Breakdown | None,
    confidences: ConfidenceReport | None,
    num_words: int,
    speakers: bool,
) -> RenderableType:
    """Everything that was asked for, below ``first``."""
    parts = [first]
    if details is not None and num_words:
        parts.append(_words(details, num_words))
    if details is not None and speakers:
        parts.append(_speakers(details))
    if confidences is not None:
        before, after = confidences.before, confidences.after
        rows: list[tuple[str, str | None]] = [
            ("words with a confidence", f"{before.num_words:,}"),
            ("calibration error", f"{percent(before.ece)}, {number(before.cross_entropy)} nats a word"),
        ]
        if after is not None:
            figures = f"{percent(after.ece)}, {number(after.cross_entropy)} nats a word"
            rows.append(("calibrated on these words", figures))
        parts.append(facts(rows))
    return Group(*parts)


def _words(details: Breakdown, num_words: int) -> Table:
    table = Table(title="words with most errors", title_justify="left", title_style="bold")
    for column in ("word", "said", "errors", "heard instead"):
        table.add_column(column, justify="right" if column in ("said", "errors") else "left", overflow="fold")
    for entry in details.words[:num_words]:
        heard = ", ".join(f"{text or '(nothing)'} {count}" for text, count in entry.heard[:_HEARD])
        said = f"{entry.num_said:,}" if entry.word else ""
        table.add_row(Text(entry.word or "(inserted)"), said, f"{entry.errors:,}", Text(heard))
    return table


def _speakers(details: Breakdown) -> Table:
    table = Table(title="speakers", title_justify="left", title_style="bold")
    for column in ("speaker", "utterances", "words", "errors", "WER"):
        table.add_column(column, justify="left" if column == "speaker" else "right")
    for entry in details.speakers:
        counts = (f"{entry.num_utterances:,}", f"{entry.num_words:,}", f"{entry.errors:,}")
        rate = "" if entry.wer is None else percent(entry.wer)
        table.add_row(Text(entry.speaker or "(unknown)"), *counts, rate)
    return table
