"""``hocket scale``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr
from hocket.core.errors import UsageError

if TYPE_CHECKING:
    from hocket.studies.scale import StudySettings


def scale(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; the same one goes on.", show_default="runs/scale-RECIPE-DATE"
        ),
    ] = None,
    study: Annotated[
        Path | None, typer.Option(help="A study: a YAML file with grids, in place of the flags below.")
    ] = None,
    strategies: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:KEY=VALUE...],...",
            help="Ways for workers to agree; repeatable.",
            show_default="all_reduce,all_reduce:compression=one_bit,local_sgd,server,gossip",
        ),
    ] = None,
    workers: Annotated[
        str | None, typer.Option(metavar="N,...", help="Numbers of workers.", show_default="1,2")
    ] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many of each.", show_default="1")] = None,
    links: Annotated[
        str | None,
        typer.Option(
            metavar="LINK,...",
            help="loopback, 1gbit, 100mbit, 100mbit+5ms: between hosts of their own, which needs root.",
            show_default="loopback",
        ),
    ] = None,
    partition: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="by_cost, random, stratified, by_speaker.",
            show_default="the recipe's",
        ),
    ] = None,
    scaling: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="strong, weak.", show_default="strong")
    ] = None,
    score: Annotated[
        bool | None, typer.Option("--score/--no-score", help="Recognise and score the test part.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=2, help="Of every run.", show_default="the recipe's")
    ] = None,
    target_loss: Annotated[
        float | None,
        typer.Option(
            help="Nats per token; the time to it is measured.",
            show_default="that of all_reduce after four fifths of its steps",
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Minutes; what is left is for the next time.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Split to score.", show_default="test, or dev")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and the expected time.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train with several ways of being parallel, and say what each buys in time and costs in words.

    Every combination is a run of its own on the same audio. The same command goes on where it ended: a
    finished cell is not run again.
    """
    grid = {
        "strategies": _split(strategies),
        "workers": _numbers(workers),
        "seeds": seeds,
        "links": _split(None if links is None else [links]),
        "partitions": _split(None if partition is None else [partition]),
        "scaling": _split(None if scaling is None else [scaling]),
        "score": score,
    }
    whole = {"steps": steps, "target_loss": target_loss, "split": split, "budget_minutes": budget}
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.cli.recognize import show
        from hocket.cli.view import TrainingView
        from hocket.reports.scale import terminal
        from hocket.studies.scale import Watch
        from hocket.studies.scale import study as studies

        asked = _settings(study, _given(grid), _given(whole), settings or [])
        folder = out or Path("runs") / f"scale-{recipe.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        if dry_run:
            planned = studies.plan(recipe, folder, asked)
            output.give(planned, lambda: terminal.planned(planned.cells, planned.notes))
            return
        watch = Watch(
            say=progress.say,
            cells=lambda done, of, now: progress.update("cells", done, of, now),
            training=TrainingView(progress).show,
            recognising=lambda state: show(progress, state),
        )
        found = studies.scale(recipe, folder, asked, watch)
        output.give(studies.as_answer(found), lambda: terminal.found(found.study, found.page))
    if found.study.failed:
        raise typer.Exit(1)


def _settings(
    study: Path | None, grid: dict[str, Any], whole: dict[str, Any], changes: list[str]
) -> StudySettings:
    """A study file with what flags say of the whole laid over it, or the grid that flags describe."""
    from hocket.core import recipe as recipes
    from hocket.studies.scale.settings import StudySettings, checked

    if study is None:
        return checked({"grids": [grid], "set": changes, **whole})
    if grid:
        flags = ", ".join(f"--{name.removesuffix('s') if name == 'partitions' else name}" for name in grid)
        raise UsageError(f"{flags}: the grids are those of {study}", "Change them there, or leave it out.")
    read = recipes.load(study, StudySettings)
    return read.model_copy(update={**whole, "set": (*read.set, *changes)})


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _split(values: list[str] | None) -> list[str] | None:
    if values is None:
        return None
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--workers {text}: not numbers from 1 on, with commas between them")
    return [int(part) for part in parts]
