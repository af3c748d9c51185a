"""Tables of language models, of their weights, and of two recognisers side by side."""

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
    from hocket.recognition.weights import Tuning


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


def tuning(report: Tuning, run: str) -> RenderableType:
    """The weights chosen, and the error rates on the way there."""
    options = f"--lm {report.lm} --lm-scale {report.lm_scale:g} --word-score {report.word_score:g}"
    limits = " and ".join(report.at_limit)
    rows: list[Row] = [
        ("tuned on", f"{report.num_utterances:,} utterances, {report.num_words:,} words"),
        ("could not be heard", f"{report.num_failed:,} utterances" if report.num_failed else None),
        ("WER, greedy", percent(report.greedy_wer)),
        ("WER with these weights", f"{percent(report.wer)}, on the speech that they were chosen on"),
        ("tried further than planned", ", ".join(report.widened) or None),
        (
            "warning",
            f"the best {limits} lies at the end of what is tried: does the language model fit the speech?"
            if limits
            else None,
        ),
        ("recognise with", f"hocket recognize {run} AUDIO --out hyps.jsonl --beam {report.beam} {options}"),
    ]
    scores = sorted({point.word_score for point in report.tried})
    found = {(point.lm_scale, point.word_score): point.wer for point in report.tried}
    side = Table(title="WER by LM scale and word score", title_justify="left", title_style="bold")
    side.add_column("LM scale", justify="right")
    for score in scores:
        side.add_column(f"{score:g}", justify="right")
    for scale in sorted({point.lm_scale for point in report.tried}):
        wers = [found.get((scale, score)) for score in scores]
        side.add_row(f"{scale:g}", *("" if wer is None else percent(wer) for wer in wers))
    return Group(facts(rows), side)


def _count(errors: int | None) -> str:
    return "" if errors is None else str(errors)
