"""``hocket plan``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import Progress, on_stderr

if TYPE_CHECKING:
    from hocket.planning.search import Objective
    from hocket.studies.planning.plan import Plan

_OBJECTIVES = Literal["time", "cost", "energy"]


def plan(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file.", show_default=False)],
    hardware: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|NAME:NODESxDEVICES",
            help="A file of `hocket probe`, or hardware of the catalogue, as in H100-SXM:4x8.  "
            "[default: this machine]",
            show_default=False,
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="KIND:KEY=VALUE,...",
            help="How hosts are joined, as in fat-tree:leaf=16,oversubscription=4,link=100Gbit.",
            show_default=False,
        ),
    ] = None,
    objective: Annotated[
        _OBJECTIVES, typer.Option(help="What is to be small: time, cost (dollars) or energy.")
    ] = "time",
    price: Annotated[
        float | None,
        typer.Option(
            metavar="DOLLARS",
            help="What a device costs in an hour.  [default: a published price, where there is one]",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Only so many.  [default: powers of two up to all devices]", show_default=False),
    ] = None,
    any_answer: Annotated[
        bool,
        typer.Option(
            "--any-answer",
            help="Also recommend another precision or way of agreeing than the recipe's: they learn "
            "something else.",
        ),
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say in plain words what to run and why.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(help="Write the recipe as it was laid out, for `hocket train`.", show_default=False),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the page with pictures goes.")] = Path("plan.html"),
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine again; it takes some minutes.")
    ] = False,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how to train a recipe on some hardware: the layout, how long it takes, what it costs, and why.

    Tries every layout that fits, and ranks them. The first time on a machine it is measured, which takes some
    minutes; what was measured is kept.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.core import files
        from hocket.reports.plan import page, terminal
        from hocket.studies.planning import plan as plans

        made = make(
            recipe,
            progress,
            hardware=hardware,
            network=network,
            objective=objective,
            price=price,
            workers=workers,
            any_answer=any_answer,
            calibrate=calibrate,
            settings=settings,
        )
        if write is not None:
            plans.write_recipe(made.settled, made.chosen.candidate, write)
        answer = plans.as_answer(made)
        files.write_text(out, page.page(answer))
        output.give(
            {**answer, "page": str(out), "written": None if write is None else str(write)},
            lambda: terminal.plan(answer, explain=explain, page=str(out), written=write),
        )


def make(
    recipe: Path,
    progress: Progress,
    *,
    hardware: str | None = None,
    network: str | None = None,
    objective: Objective = "time",
    price: float | None = None,
    workers: int | None = None,
    any_answer: bool = False,
    calibrate: bool = False,
    settings: list[str] | None = None,
) -> Plan:
    """The plan, told of on the way."""
    from hocket.studies.planning import machines
    from hocket.studies.planning import plan as plans

    def told(what: str, done: int, of: int) -> None:
        progress.update(what, done, of)

    def ground(device: str, threads: int) -> machines.Ground:
        return machines.ground_for(
            hardware,
            network,
            cache=cache_folder(),
            device=device,
            threads=threads,
            again=calibrate,
            told=told,
        )

    return plans.plan(
        recipe,
        ground,
        workers=workers,
        objective=objective,
        price=price,
        any_answer=any_answer,
        overrides=settings or [],
        told=told,
    )


def cache_folder() -> Path:
    """Where what was measured of this machine is kept: in ``XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hocket"
