"""``hocket export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a model.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder to write; must not be there.", show_default=False)],
    format: Annotated[
        str, typer.Option("--format", help="hf: ParakeetForCTC, for transformers.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Write a trained model for another program."""
    with reporting(as_json) as output:
        from hocket.recognition.export import export as write
        from hocket.reports import tables

        report = write(run, out, format)
        output.give(report, lambda: tables.exported(report))
