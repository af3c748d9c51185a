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
    as_json: JsonOption = False,
) -> None:
    """Word and character error rates, with an interval, and the utterances that went worst."""
    with reporting(as_json) as out:
        from hocket.recognition.score import score_file
        from hocket.reports import tables

        report = score_file(hyps, by=by, normalise=normalise, num_worst=worst)
        out.give(report, lambda: tables.score(report))
