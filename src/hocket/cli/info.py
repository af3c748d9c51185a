"""``hocket info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting


def info(
    run: Annotated[Path, typer.Argument(help="Folder of a run.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Say how a run went, or how it is going: rate, time left, slowest rank, restarts, errors.

    Writes the same as a page with pictures into the run's folder: report.html.
    """
    with reporting(as_json) as out:
        from hocket.reports import picture, tables
        from hocket.reports import run as runs

        found = runs.describe(run)
        picture.write(run)
        out.give(found, lambda: tables.run(found))
