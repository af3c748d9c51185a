"""``hocket plan``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hocket.cli import plan_recognition
from hocket.cli.kept import cache_folder
from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import Progress, of_parts, on_stderr
from hocket.core.errors import UsageError

if TYPE_CHECKING:
    from hocket.planning.objective import Objective
    from hocket.studies.planning.plan import Plan

_OBJECTIVES = Literal["time", "cost", "energy"]
_RECOGNITION = "Recognition"


def plan(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RECIPE | INPUT...",
            help="A recipe: a YAML file. With --recognize what is to be recognised, if it is there already.",
            show_default=False,
        ),
    ] = None,
    hardware: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|NAME:NODESxDEVICES",
            help="A file of `hocket probe`, or hardware of the catalogue, as in H100-SXM:4x8. With "
            "--recognize several times to compare, or a NAME alone for as many as are needed.",
            show_default="this machine",
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
            help="What a device costs in an hour.",
            show_default="a published price, where there is one",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Only so many.", show_default="powers of two up to all devices"),
    ] = None,
    any_answer: Annotated[
        bool,
        typer.Option(
            "--any-answer",
            help="Also recommend another precision or way of agreeing than the recipe's: they learn "
            "something else. With --recognize also bf16 and int8: they may cost words.",
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
    recognize: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL|PRESET",
            help="Plan a recognition instead: by a run, a model, an exported folder, or a preset.",
            rich_help_panel=_RECOGNITION,
            show_default=False,
        ),
    ] = None,
    rtfx: Annotated[
        float | None,
        typer.Option(help="Seconds of speech to recognise in a second.", rich_help_panel=_RECOGNITION),
    ] = None,
    hours: Annotated[
        float | None,
        typer.Option(help="Hours of speech, where no inputs are named.", rich_help_panel=_RECOGNITION),
    ] = None,
    within: Annotated[
        float | None,
        typer.Option(
            metavar="HOURS", help="All of it is to be done in so many hours.", rich_help_panel=_RECOGNITION
        ),
    ] = None,
    latency: Annotated[
        float | None,
        typer.Option(
            metavar="MS",
            help="From the end of an utterance to its text, for 99 of 100; --rtfx says how much comes.",
            rich_help_panel=_RECOGNITION,
        ),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            metavar="DOLLARS",
            help="What it may cost: the job where its hours are known, else an hour.",
            rich_help_panel=_RECOGNITION,
        ),
    ] = None,
    utterance: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Length of an utterance, where no inputs are named.",
            rich_help_panel=_RECOGNITION,
            show_default="10",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY.PATH=VALUE", help="Change a setting of the recipe; repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how to train a recipe on some hardware: the layout, how long it takes, what it costs, and why.

    Tries every layout that fits, and ranks them. The first time on a machine it is measured, which takes some
    minutes; what was measured is kept. With --recognize the same for recognising: workers, backend, precision
    and micro-batches for a speed or a latency that is wanted.
    """
    wanted = {
        "rtfx": rtfx,
        "hours": hours,
        "within": within,
        "latency": latency,
        "budget": budget,
        "utterance": utterance,
    }
    given = [f"--{name}" for name, value in wanted.items() if value is not None]
    if recognize is not None:
        _check_recognition({"--network": network, "--write": write, "--set": settings})
        plan_recognition.plan(
            recognize,
            names or [],
            hardware or [],
            wanted,
            objective=objective,
            price=price,
            workers=workers,
            any_answer=any_answer,
            explain=explain,
            out=out,
            calibrate=calibrate,
            as_json=as_json,
        )
        return
    recipe, one = _recipe(names or [], hardware or [], given)
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.core import files
        from hocket.reports.plan import page, terminal
        from hocket.studies.planning import plan as plans

        made = make(
            recipe,
            progress,
            hardware=one,
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


def _recipe(names: list[str], hardware: list[str], given: list[str]) -> tuple[Path, str | None]:
    """The recipe, and what it is planned for."""
    if len(names) != 1:
        raise UsageError(
            f"hocket plan: {'which recipe?' if not names else f'{len(names)} recipes were named'}",
            "Name one recipe, or plan a recognition with --recognize MODEL.",
        )
    if given:
        raise UsageError(f"{given[0]} goes with --recognize", "A recipe says itself what is to be trained.")
    if len(hardware) > 1:
        raise UsageError("--hardware: several are for --recognize", "Plan a training for one at a time.")
    return Path(names[0]), hardware[0] if hardware else None


def _check_recognition(others: Mapping[str, object]) -> None:
    """Raise :class:`UsageError` for options that say something of training."""
    for name, value in others.items():
        if value:
            raise UsageError(f"{name} goes with a recipe", "Leave it out with --recognize.")


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

    told = of_parts(progress)

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
