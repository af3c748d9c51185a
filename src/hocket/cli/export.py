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
        str, typer.Option("--format", help="hf: ParakeetForCTC, for transformers. onnx: for sherpa-onnx.")
    ],
    int8: Annotated[bool, typer.Option("--int8", help="Add the model with products of integers.")] = False,
    check: Annotated[
        list[str] | None, typer.Option(help="Input to recognise by all ways, to see what they cost in words.")
    ] = None,
    fixed: Annotated[
        str | None,
        typer.Option(
            metavar="UTTERANCESxFRAMES",
            help="Add the fp32 graph for this many utterances of this many frames of 10 ms, as in 1x1600.",
            show_default=False,
        ),
    ] = None,
    card: Annotated[
        str | None,
        typer.Option(
            "--for",
            metavar="CARD",
            help="Say whether what is written can get onto a card of hocket hardware.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trained model for another program."""
    with reporting(as_json) as output:
        from hocket.recognition.export import export as write
        from hocket.reports import tables

        report = write(run, out, format, int8=int8, check=check or (), fixed=fixed, card=card)
        output.give(report, lambda: tables.exported(report))
