"""``hocket recognize``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hocket.cli import search
from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import Progress, on_stderr

if TYPE_CHECKING:
    from hocket.recognition.report import JobProgress


def recognize(
    run: Annotated[
        str,
        typer.Argument(
            help="Folder of a run, of a model, or an exported one; hf:FOLDER for a published model.",
            show_default=False,
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Audio files, folders, tables, manifests, or a prepared corpus as FOLDER:SPLIT.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where hypotheses go, as JSON lines.", show_default=False)],
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    batch_seconds: Annotated[float, typer.Option(help="Padded audio of a micro-batch, at most.")] = 60.0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="Of matrix products; int8 for exported folders.")
    ] = "fp32",
    beam: search.Beam = 0,
    lm: search.Lm = None,
    lm_scale: search.LmScale = 0.6,
    word_score: search.WordScore = 1.0,
    hotwords: search.HotwordsFile = None,
    hotword_score: search.HotwordScore = 1.5,
    blank_skip: search.BlankSkip = 0.999,
    nbest: search.NumBest = 1,
    words: search.Words = False,
    calibration: search.CalibrationFile = None,
    as_json: JsonOption = False,
) -> None:
    """Recognise speech with a trained model. Any number of workers gives the same transcripts.

    What cannot be recognised is listed beside OUT, in OUT's name with .failed; the exit status is then 1.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.recognition import job
        from hocket.reports import tables

        settings = search.settings(
            *(beam, lm, lm_scale, word_score, hotwords, hotword_score, blank_skip, nbest, words, calibration)
        )
        report = job.recognize(
            run,
            inputs,
            out,
            workers=workers,
            batch_seconds=batch_seconds,
            device=device,
            precision=precision,
            search=settings,
            progress=lambda state: show(progress, state),
        )
        output.give(report, lambda: tables.recognition(report))
    if report.num_failed:
        raise typer.Exit(1)


def show(progress: Progress, state: JobProgress) -> None:
    """How far a job is: utterances answered or failed, and seconds of audio per second."""
    speed = state.audio_seconds_done / state.elapsed if state.elapsed > 0 else 0.0
    failed = f"  {state.num_failed} failed" if state.num_failed else ""
    note = f"{speed:.0f} s of speech/s{failed}" if state.audio_seconds_done else ""
    progress.update("recognising", state.num_done + state.num_failed, state.num_utterances, note)
