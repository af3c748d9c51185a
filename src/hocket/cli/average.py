"""``hocket average``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting


def average(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, usually one.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder of the model to write.", show_default=False)],
    last: Annotated[int, typer.Option(min=1, help="Checkpoints of each run, the last ones.")] = 5,
    ema: Annotated[
        bool, typer.Option("--ema", help="Of the moving averages in them (ema), not of the weights.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a model of a run's last checkpoints: the mean of their weights."""
    with reporting(as_json) as output:
        from hocket.reports import tables
        from hocket.training.checkpoint_average import average

        found = average(runs, out, last=last, ema=ema)
        output.give(found, lambda: tables.averaged(found))
