"""``hocket probe`` and ``hocket hardware``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hocket.cli.output import JsonOption, reporting
from hocket.cli.progress import on_stderr

_PRESETS = ["tiny", "base", "large", "xlarge"]


def probe(
    out: Annotated[Path, typer.Option(help="File to write the profile to.")] = Path("machine.json"),
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes at once.",
            show_default="the accelerators, or else the cores, 16 at most",
        ),
    ] = None,
    folder: Annotated[
        Path, typer.Option(help="Where reading is measured: on the disk of the corpora.")
    ] = Path(),
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Models whose products to measure; repeatable.",
            show_default=", ".join(_PRESETS),
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="To measure for, about.")] = 75.0,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine: products, memory, accelerators, messages between workers, storage.

    The profile is what plans are made from. End other work first: it says so when the machine is noisy.
    """
    with reporting(as_json) as output, on_stderr() as progress:
        from hocket.hardware import probing
        from hocket.model import ModelConfig, workload
        from hocket.reports import hardware as reports

        names = preset or _PRESETS
        shapes = {name: workload.typical_products(ModelConfig(preset=name))[0] for name in _known(names)}  # type: ignore[call-arg]
        settings = probing.ProbeSettings(
            workers=workers or probing.default_workers(), folder=folder, seconds=seconds, shapes=shapes
        )
        found = probing.probe(settings, progress.update)
        found.write(out)
        progress.say(f"written: {out}")
        output.give(found, lambda: reports.profile(found))


def hardware(
    name: Annotated[str | None, typer.Argument(help="One card, with sources.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """Published hardware: rates, memory, links, power, price, and how a model gets there."""
    with reporting(as_json) as output:
        from hocket.hardware import catalogue
        from hocket.reports import hardware as reports

        if name is None:
            cards = catalogue.cards()
            output.give({"cards": cards}, lambda: reports.catalogue(cards))
            return
        card = catalogue.find(name)
        output.give(card, lambda: reports.card(card))


def _known(names: list[str]) -> list[str]:
    from hocket.core.errors import UsageError
    from hocket.model.presets import PRESETS

    for name in names:
        if name not in PRESETS:
            raise UsageError(f"--preset {name}: not known", f"Known: {', '.join(PRESETS)}.")
    return names
