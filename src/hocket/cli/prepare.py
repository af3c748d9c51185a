"""``hocket prepare``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr


def prepare(
    source: Annotated[
        str,
        typer.Argument(
            help="A table (.jsonl, .csv, .tsv), a folder that holds one called manifest, a lhotse manifest "
            "of cuts, a Kaldi data directory, the folder of AN4 or LibriSpeech, or the word synthetic.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder to write.", show_default=False)],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Format of SOURCE, if it is not told from it; lhotse:NAME for lhotse's recipe NAME.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        str,
        typer.Option(
            help="char, char+FOLDER (those of a prepared folder, too), sentencepiece:SIZE, or a prepared "
            "folder whose tokens to use."
        ),
    ] = "char",
    case: Annotated[Literal["keep", "lower", "upper"], typer.Option(help="Of the texts.")] = "keep",
    dev: Annotated[
        float, typer.Option(min=0.0, max=0.5, help="Part of training held back where there is no dev split.")
    ] = 0.05,
    max_seconds: Annotated[float, typer.Option(help="Longer utterances of training are left out.")] = 40.0,
    subsampling: Annotated[
        int, typer.Option(help="Factor of the model to train, 4 or 8: CTC needs frames enough.")
    ] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of rows, of what is held back or made.")] = 1,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode/--headers-only", help="Read all audio, to find damaged files, or only headers."
        ),
    ] = True,
    shards: Annotated[
        bool,
        typer.Option("--shards", help="Put the audio into tar files, too, for far-away stores."),
    ] = False,
    shard_mb: Annotated[float, typer.Option(min=0.01, help="Size of a shard, about, in MB.")] = 256.0,
    encode: Annotated[
        Literal["keep", "flac", "opus"],
        typer.Option(
            help="Recordings in shards: as they are, as FLAC (the same samples), or as Opus (with loss)."
        ),
    ] = "keep",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that read audio and write shards.", show_default="all cores"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a corpus ready: manifests, index, tokens, statistics, and what was left out and why."""
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.corpus.prepare import PrepareSettings
        from hocket.corpus.prepare import prepare as prepare_corpus
        from hocket.reports import tables

        settings = PrepareSettings(
            tokens=tokens,
            seed=seed,
            case=case,
            dev_fraction=dev,
            max_seconds=max_seconds,
            subsampling=subsampling,
            decode=decode,
            workers=workers or os.cpu_count() or 1,
            shards=shards,
            shard_mb=shard_mb,
            encode=encode,
        )
        report = prepare_corpus(source, out, format, settings, progress.update)
        output.give(report, lambda: tables.corpus(report))
