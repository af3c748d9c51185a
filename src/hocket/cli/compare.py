"""``hocket compare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hocket.cli.output import JsonOption, reporting


def compare(
    a: Annotated[Path, typer.Argument(help="hyps.jsonl of one recogniser.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="hyps.jsonl of another, on the same input.", show_default=False)],
    normalise: Annotated[
        Literal["none", "basic"], typer.Option(help="Before texts are compared; see hocket score.")
    ] = "none",
    show: Annotated[int, typer.Option(min=0, help="How many differing utterances to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Whether one recogniser is better than another: a matched-pair test, and where they differ."""
    with reporting(as_json) as out:
        from hocket.recognition.compare import compare_files
        from hocket.reports import comparison

        report = compare_files(a, b, normalise=normalise)
        out.give(report, lambda: comparison.table(report, show))
