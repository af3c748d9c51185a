"""``hocket recognize``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hocket.cli import search
from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import Progress, on_stderr
from hocket.core.errors import UsageError

if TYPE_CHECKING:
    from hocket.recognition.report import JobProgress


def recognize(
    run: search.Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Audio files, folders, patterns, tables, manifests, tar shards, a prepared corpus as "
            "FOLDER:SPLIT, or - for a list of them on standard input.",
            show_default=False,
        ),
    ],
    out: Annotated[
        list[Path],
        typer.Option(
            help="Where hypotheses go: .jsonl, .txt, .ctm, .parquet, or subtitles as '*.srt' and '*.vtt'. "
            "May be given several times; the journal lies beside the first.",
            show_default=False,
        ),
    ],
    workers: Annotated[
        str, typer.Option(help="Worker processes, or auto to find the best number (and batch) by measuring.")
    ] = "1",
    batch_seconds: Annotated[
        float | None, typer.Option(help="Padded audio of a micro-batch, at most.", show_default="30")
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help="Longer audio is cut at silences.", show_default="the longest that the model was trained on"
        ),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute.")] = "auto",
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="Of matrix products; int8 for exported folders.")
    ] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="Threads of each worker.")] = 1,
    engine: Annotated[
        Literal["processes", "ray"],
        typer.Option(help="Where workers run: on this machine, or on the Ray cluster that it belongs to."),
    ] = "processes",
    layout: Annotated[
        str,
        typer.Option(
            help="Processes that are one worker, for recordings too long for one: sp=N gives each a part "
            "of the frames.",
            show_default=False,
        ),
    ] = "",
    order: Annotated[
        Literal["input", "finished"], typer.Option(help="Of hypotheses in the outputs.")
    ] = "input",
    null: Annotated[
        bool, typer.Option("--null", "-0", help="Names on standard input end with a zero byte.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw the journal of an earlier job away.")] = False,
    beam: search.Beam = 0,
    lm: search.Lm = None,
    lm_scale: search.LmScale = 0.5,
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

    The same command again goes on where the last one ended. What cannot be recognised is listed beside
    the first OUT, in hyps.failed.jsonl for hyps.jsonl; the exit status is then 1.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.recognition import job
        from hocket.recognition.inputs import STDIN, listed
        from hocket.reports import tables

        settings = search.settings(
            *(beam, lm, lm_scale, word_score, hotwords, hotword_score, blank_skip, nbest, words, calibration)
        )
        names = inputs
        if STDIN in inputs:
            if inputs != [STDIN]:
                raise UsageError("- (a list on standard input) goes with no other input")
            names = listed(sys.stdin.buffer, null)
        report = job.recognize(
            run,
            names,
            out,
            workers=_number(workers),
            batch_seconds=batch_seconds,
            max_seconds=max_seconds,
            device=device,
            precision=precision,
            threads=threads,
            engine=engine,
            sp=_sp(layout),
            order=order,
            lenient=STDIN in inputs,
            fresh=fresh,
            search=settings,
            progress=lambda state: show(progress, state),
        )
        output.give(report, lambda: tables.recognition(report))
    if report.num_failed:
        raise typer.Exit(1)


def _number(workers: str) -> int | None:
    if workers == "auto":
        return None
    if not workers.isdecimal() or int(workers) < 1:
        raise UsageError(f"--workers: {workers!r} is neither a number from 1 on nor auto")
    return int(workers)


def _sp(layout: str) -> int:
    """Degree of ``sp``, the one axis along which recognition is split."""
    axis, _, degree = layout.partition("=")
    if not layout:
        return 1
    if axis.strip() != "sp" or not degree.strip().isdecimal() or int(degree) < 1:
        raise UsageError(
            f"--layout: {layout!r} is not of the form sp=N", "Recognition is split along the time alone."
        )
    return int(degree)


def show(progress: Progress, state: JobProgress) -> None:
    """How far a job is: utterances answered or failed, and seconds of audio per second."""
    speed = state.audio_seconds_done / state.elapsed if state.elapsed > 0 else 0.0
    failed = f"  {state.num_failed} failed" if state.num_failed else ""
    note = f"{speed:.0f} s of speech/s{failed}" if state.audio_seconds_done else ""
    done = state.num_earlier + state.num_done + state.num_failed
    progress.update("recognising", done, state.num_utterances, note)
