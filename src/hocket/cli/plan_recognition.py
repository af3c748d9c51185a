"""``hocket plan --recognize``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hocket.cli.kept import cache_folder
from hocket.cli.output import reporting
from hocket.cli.progress import of_parts, on_stderr
from hocket.core.errors import UsageError

if TYPE_CHECKING:
    from hocket.planning.objective import Objective


def plan(
    model: str,
    inputs: list[str],
    hardware: list[str],
    wanted: Mapping[str, float | None],
    *,
    objective: Objective,
    price: float | None,
    workers: int | None,
    any_answer: bool,
    explain: bool,
    out: Path,
    calibrate: bool,
    as_json: bool,
) -> None:
    """Plan, draw the page, and tell."""
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.core import files
        from hocket.reports.plan import recognition_page, recognition_terminal
        from hocket.studies.planning import recognizing
        from hocket.studies.planning.sites import sites_for

        asked = recognizing.Wanted(
            rtfx=wanted["rtfx"],
            hours=wanted["hours"],
            within=wanted["within"],
            latency_ms=wanted["latency"],
            budget=wanted["budget"],
            utterance=wanted["utterance"],
            workers=workers,
            objective=objective,
            any_text=any_answer,
        )
        recognizing.check(asked, inputs)
        if price is not None and len(hardware) > 1:
            raise UsageError(
                "--price: of which hardware?", "Compare those whose prices are published, or one."
            )
        heard = recognizing.hear(model, inputs, asked)
        sites, notes = sites_for(
            hardware,
            heard.reading,
            price=price,
            cache=cache_folder(),
            again=calibrate,
            told=of_parts(progress),
        )
        made = recognizing.plan(model, inputs, asked, sites, heard.speech, [heard.note, *notes])
        answer = recognizing.as_answer(made)
        files.write_text(out, recognition_page.page(answer))
        output.give(
            {**answer, "page": str(out)},
            lambda: recognition_terminal.plan(answer, explain=explain, page=str(out)),
        )
