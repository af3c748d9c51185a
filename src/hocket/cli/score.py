"""``hocket score``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hocket.cli.output import JsonOption, reporting


def score(
    hyps: Annotated[Path, typer.Argument(help="hyps.jsonl, as recognize writes it.", show_default=False)],
    by: Annotated[
        Literal["utterance", "speaker"], typer.Option(help="What the interval is drawn over.")
    ] = "utterance",
    normalise: Annotated[
        Literal["none", "basic"],
        typer.Option(
            help="Before texts are compared. basic: lower case, no punctuation, single spaces, Unicode NFKC."
        ),
    ] = "none",
    worst: Annotated[int, typer.Option(min=0, help="How many of the worst utterances to list.")] = 10,
    words: Annotated[int, typer.Option(min=0, help="How many of the words with most errors to list.")] = 0,
    speakers: Annotated[bool, typer.Option("--speakers", help="Error rate of each speaker.")] = False,
    reliability: Annotated[
        Path | None,
        typer.Option(help="SVG file: how well the confidences of words hold (recognize --words)."),
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(help="JSON file: a map of confidences, for recognize --calibration.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Word and character error rates, with an interval, and the utterances that went worst."""
    with reporting(as_json) as out:
        from hocket.core import files
        from hocket.recognition import confidence, hypotheses
        from hocket.recognition.score import break_down_file, score_file
        from hocket.reports import breakdown, tables
        from hocket.reports.reliability import svg

        report = score_file(hyps, by=by, normalise=normalise, num_worst=worst)
        details = break_down_file(hyps, normalise=normalise) if words or speakers else None
        confidences = None
        if reliability is not None or calibrate is not None:
            found = hypotheses.read(hyps)
            confidences = confidence.report(found, normalise=normalise, fit=calibrate is not None)
            if calibrate is not None:
                confidence.write(calibrate, confidences)
            if reliability is not None:
                files.write_text(reliability, svg(confidences))
        if details is None and confidences is None:
            out.give(report, lambda: tables.score(report))
            return
        answer = {"score": report, "breakdown": details, "confidence": confidences}
        out.give(
            answer, lambda: breakdown.tables(tables.score(report), details, confidences, words, speakers)
        )
