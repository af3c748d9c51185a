"""``hocket study``: questions that take many runs to answer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr
from hocket.core.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Questions that take many runs to answer.")


@app.callback()
def _study() -> None:
    pass


@app.command("batch")
def batch(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the study; the same one goes on.", show_default="runs/batch-RECIPE-DATE"
        ),
    ] = None,
    times: Annotated[
        str, typer.Option(metavar="N,...", help="Sizes of a step, in multiples of the recipe's.")
    ] = "1,2,4,8,16",
    rules: Annotated[
        str, typer.Option(metavar="RULE,...", help="Learning-rate rules; the first has all the seeds.")
    ] = "sqrt,linear,none",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the first rule.")] = 3,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes of a run.")] = 1,
    budget: Annotated[
        float | None,
        typer.Option(help="Minutes; what is left is for the next time.", show_default=False),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find out how large a batch this model and corpus bear: audio and words over sizes of a step.

    Every size, rule and seed is a run on the same audio. Writes batch.html and batch.json. The same
    command goes on where it ended.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from pydantic import ValidationError

        from hocket.cli.recognize import show
        from hocket.cli.view import TrainingView
        from hocket.studies.batch import BatchStudy, Watch, study_batch
        from hocket.studies.batch.terminal import draw

        try:
            asked = BatchStudy.model_validate(
                {
                    "times": sorted({int(each) for each in times.split(",")}),
                    "rules": [each.strip() for each in rules.split(",")],
                    "seeds": seeds,
                    "workers": workers,
                    "budget_minutes": budget,
                    "set": settings or [],
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            option = str(first["loc"][0]).removesuffix("_minutes")
            raise UsageError(f"--{option}: {first['msg']} (got {first['input']!r})") from None
        except ValueError:
            raise UsageError(f"--times {times}: not whole numbers with commas between them") from None
        folder = out or Path("runs") / f"batch-{recipe.stem}-{time.strftime('%Y%m%d-%H%M%S')}"
        watch = Watch(
            say=progress.say,
            cells=lambda done, of, now: progress.update(f"run {now}", done, of),
            training=TrainingView(progress).show,
            recognising=lambda state: show(progress, state),
        )
        found = study_batch(recipe, folder, asked, watch)
        output.give(found, lambda: draw(found))
    if found.failed:
        raise typer.Exit(1)
