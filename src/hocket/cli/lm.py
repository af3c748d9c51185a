"""``hocket lm``: language models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from hocket.cli import search
from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr

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


@app.command("tune")
def tune(
    run: search.Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Speech with texts that neither model has seen: a prepared corpus as FOLDER:dev, a table, a "
            "manifest.",
            show_default=False,
        ),
    ],
    lm: Annotated[Path, typer.Option(help="Language model of words, ARPA.", show_default=False)],
    beam: Annotated[int, typer.Option(min=1, help="Prefixes of the beam search.")] = 8,
    blank_skip: search.BlankSkip = 0.999,
    normalise: Annotated[
        Literal["none", "basic"], typer.Option(help="Before texts are compared, as in hocket score.")
    ] = "none",
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="Of matrix products; int8 for exported folders.")
    ] = "fp32",
    as_json: JsonOption = False,
) -> None:
    """Choose --lm-scale and --word-score by the errors on speech that was held back."""
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.decoding.beam import BeamSettings
        from hocket.hardware.device import fix_arithmetic
        from hocket.recognition import weights
        from hocket.reports import comparison

        fix_arithmetic(1)
        search.check_lm(lm)
        settings = BeamSettings(beam=beam, blank_skip=blank_skip, lm=lm)
        report = weights.tune(
            run,
            inputs,
            settings,
            normalise=normalise,
            device=device,
            precision=precision,
            progress=progress.update,
        )
        output.give(report, lambda: comparison.tuning(report, run))
