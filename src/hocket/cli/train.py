"""``hocket train``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hocket.cli.output import JsonOption, Output, reporting
from hocket.cli.progress import Progress, on_stderr
from hocket.core import events
from hocket.core.errors import UsageError


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)],
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes on this machine.",
            show_default="what the layout takes, else 1",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            "--run-dir",
            help="Folder of the run.",
            show_default="runs/RECIPE-DATE",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --run, on any number of workers.")
    ] = False,
    sync: Annotated[
        str | None,
        typer.Option(
            "--sync",
            metavar="NAME",
            help="How replicas agree, with that way's defaults, in place of the recipe's section sync.",
            show_default=False,
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            "--layout",
            metavar="AXIS=DEGREE,...",
            help="How the model is split over workers, as in tp=2,pp=2, in place of the recipe's layout.",
            show_default=False,
        ),
    ] = None,
    auto: Annotated[
        bool,
        typer.Option("--auto", help="Plan first, and train on the layout and workers that are fastest here."),
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train the acoustic model of a recipe. Any number of workers takes the same steps.

    Under torchrun or srun, which start the workers themselves, leave out --workers and name the run's
    folder: with --run-dir, since torchrun takes --run for an option of its own.
    """
    overrides = [
        *([] if sync is None else [f"sync={{name: {sync}}}"]),
        *([] if layout is None else [f"layout={layout}"]),
        *(settings or []),
    ]
    if resume and run is None:
        raise UsageError("--resume: which run?", "Name its folder with --run.")
    if auto and (layout is not None or resume):
        raise UsageError("--auto chooses the layout", "Leave out --layout and --resume.")
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.cli.view import TrainingView
        from hocket.training import launch

        if auto:
            workers, chosen = _planned(recipe, workers, overrides, progress)
            overrides += chosen
        if launch.launched_by_others():
            _join(recipe, run, workers, resume, overrides, progress, output)
            return
        folder = run or Path("runs") / f"{recipe.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        summary = launch.train(
            recipe,
            run=folder,
            workers=workers,
            resume=resume,
            overrides=overrides,
            on_event=TrainingView(progress).show,
        )
        _tell(folder, summary, output)


def _planned(
    recipe: Path, workers: int | None, overrides: list[str], progress: Progress
) -> tuple[int, list[str]]:
    """Workers, and settings of the layout, that a plan for this machine recommends."""
    from hocket.cli import plan

    made = plan.make(recipe, progress, workers=workers, settings=overrides)
    layout = made.chosen.candidate.layout
    progress.say(made.words[0])
    return layout.world_size, [f"layout={'{}' if str(layout) == 'single' else layout}"]


def _join(
    recipe: Path,
    run: Path | None,
    workers: int | None,
    resume: bool,
    settings: list[str],
    progress: Progress,
    output: Output,
) -> None:
    """Be one rank of a job that torchrun or Slurm started. The first speaks for all."""
    from hocket.comms.launch import rank_environment
    from hocket.training import launch
    from hocket.training.folder import RunFolder

    if workers is not None:
        raise UsageError("--workers: whoever started this process chose their number", "Leave it out.")
    if run is None:
        raise UsageError(
            "--run-dir is missing", "Processes started by torchrun or srun need one folder for all."
        )
    leads = int(rank_environment()["RANK"]) == 0
    if leads:
        progress.say(f"training into {run}; `hocket info {run}` tells how it goes")
    status = launch.join(recipe, run=run, resume=resume, overrides=settings)
    if status:
        error = RunFolder(run).take_error()
        if error is not None:
            raise error
        raise typer.Exit(status)
    if leads:
        ends = [event for event in events.read(RunFolder(run).events) if event["event"] == "end"]
        _tell(run, ends[-1] if ends else {}, output)


def _tell(folder: Path, summary: Mapping[str, Any], output: Output) -> None:
    from hocket.cli.kept import cache_folder
    from hocket.reports import picture, tables
    from hocket.reports import run as runs
    from hocket.studies.planning import forecast

    forecast.beside(folder, cache_folder())
    page = picture.write(folder)
    answer = {"run": str(folder), **summary, "report": str(page)}
    output.give(answer, lambda: tables.training(runs.describe(folder), summary))
