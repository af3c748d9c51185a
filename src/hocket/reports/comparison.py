"""Tables of language models and of two recognisers side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hocket.reports.axes import number, percent
from hocket.reports.tables import Row, facts

if TYPE_CHECKING:
    from hocket.recognition.compare import CompareReport
    from hocket.recognition.language_model import LanguageModel


def table(report: CompareReport, show: int) -> RenderableType:
    """The test's answer in words, and the utterances that differ most."""
    rows: list[Row] = [
        ("utterances of both", f"{report.num_utterances:,}, {len(report.differences):,} of them differ"),
        ("WER of A", None if report.wer_a is None else percent(report.wer_a)),
        ("WER of B", None if report.wer_b is None else percent(report.wer_b)),
        ("texts compared after", f"{report.normalise} normalisation" if report.normalise != "none" else None),
    ]
    if report.test is not None:
        test = report.test
        few = "; too few segments to rely on it" if test.few else ""
        rows += [
            ("better in utterances", f"A in {report.num_better_a:,}, B in {report.num_better_b:,}"),
            (
                "segments with errors",
                f"{test.num_segments:,}: {test.errors_a:,} by A, {test.errors_b:,} by B",
            ),
            ("matched-pair test", f"z {test.z:+.2f}, p {test.p:.4f} (MAPSSWE, two-sided){few}"),
        ]
    shown = report.differences[:show]
    if not shown:
        return facts(rows)
    side = Table(title="where they differ most", title_justify="left", title_style="bold")
    for column in ("utterance", "errors A", "errors B", "said, A, B"):
        side.add_column(column, overflow="fold")
    for line in shown:
        texts = [text if text is not None else "(none)" for text in (line.ref, line.text_a, line.text_b)]
        side.add_row(Text(line.id), _count(line.errors_a), _count(line.errors_b), Text("\n".join(texts)))
    return Group(facts(rows), side)


def language_model(report: LanguageModel) -> RenderableType:
    """What was built."""
    ngrams = ", ".join(f"{count:,} of {n}" for n, count in enumerate(report.num_ngrams, 1))
    rows: list[Row] = [
        ("language model", str(report.out)),
        ("from", f"{report.num_sentences:,} sentences, {report.num_words:,} words"),
        ("n-grams", ngrams),
        ("perplexity of that text", number(report.perplexity)),
        ("recognise with", f"hocket recognize RUN AUDIO --out hyps.jsonl --beam 8 --lm {report.out}"),
    ]
    return facts(rows)


def _count(errors: int | None) -> str:
    return "" if errors is None else str(errors)
