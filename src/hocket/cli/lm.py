"""``hocket lm``: language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting

app = typer.Typer(help="Language models for beam search.", no_args_is_help=True)


@app.command("build")
def build(
    texts: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEXT...",
            help="Sentences, one a line; tables (.jsonl, .csv, .tsv) give their column text; a prepared "
            "corpus, as FOLDER:SPLIT or the folder alone for its train split, gives its texts.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="ARPA file to write.", show_default=False)],
    order: Annotated[int, typer.Option(min=1, max=6, help="Words of the longest n-grams.")] = 3,
    split: Annotated[str | None, typer.Option(help="Of tables and corpora, only that split.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Train an n-gram model: interpolated modified Kneser-Ney, in memory, written as ARPA."""
    with reporting(as_json) as output:
        from hocket.recognition import language_model
        from hocket.reports import comparison

        report = language_model.build(texts, out, order, split)
        output.give(report, lambda: comparison.language_model(report))
