"""``hocket demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr


def demo(
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    corpus: Annotated[
        str | None,
        typer.Option(help="A prepared corpus, or what to prepare one from.", show_default="synthetic"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="runs/demo-DATE")] = None,
    recipe: Annotated[Path | None, typer.Option(help="A recipe.", show_default="recipes/demo.yaml")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prepare a corpus, train on it, recognise its test part, and score: the whole path in minutes."""
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.cli.recognize import show
        from hocket.cli.view import TrainingView
        from hocket.studies import demo as study
        from hocket.studies.demo_report import draw

        folder = out or Path("runs") / f"demo-{time.strftime('%Y%m%d-%H%M%S')}"
        report = study.demo(
            folder,
            study.Watch(
                say=progress.say,
                preparing=progress.update,
                training=TrainingView(progress).show,
                recognising=lambda state: show(progress, state),
            ),
            workers=workers,
            corpus=corpus,
            recipe=recipe,
            overrides=settings or [],
        )
        output.give(report, lambda: draw(report))
    if report.recognition.num_failed:
        raise typer.Exit(1)
