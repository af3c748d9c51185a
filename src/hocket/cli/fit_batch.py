"""``hocket fit-batch``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr


def fit_batch(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)],
    limit_mb: Annotated[
        int | None,
        typer.Option(
            "--limit-mb",
            min=64,
            help="MiB that a worker may hold.",
            show_default="the recipe's",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, help="Micro-batches of a step are to be a multiple of this.")
    ] = 1,
    grow: Annotated[
        bool,
        typer.Option("--grow", help="Change batch.seconds, and keep the number of micro-batches of a step."),
    ] = False,
    write: Annotated[
        Path | None, typer.Option(help="Recipe to write, with the settings found.", show_default=False)
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find the largest micro-batch that a worker's memory holds, on this corpus, by measuring and trying.

    Keeps the size of a step, so what is learnt stays the same, and says how few micro-batches it can be
    cut into. On CPUs; the limit is what memory.limit_mb of a recipe holds a worker to.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.studies import fit_batch as study
        from hocket.training.launch import resolve

        given = settings or []
        found = study.fit_batch(
            resolve(recipe, given),
            limit_mb=limit_mb,
            workers=workers,
            grow=grow,
            write=write,
            say=progress.say,
        )
        answer = {**vars(found), "settings": found.settings}
        output.give(answer, lambda: study.draw(found, recipe, given))
