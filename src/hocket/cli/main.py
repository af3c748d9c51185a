"""``hocket``: the app that holds the verbs together, and how errors leave it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hocket import __version__
from hocket.cli import (
    average,
    bench,
    compare,
    demo,
    export,
    fit_batch,
    info,
    lm,
    plan,
    prepare,
    probe,
    recognize,
    scale,
    score,
    study,
    train,
)
from hocket.core.errors import HocketError


class Verbs(TyperGroup):
    """Prints errors that a user can act on without a traceback, and leaves with their status."""

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; 1 for what failed, 2 for wrong usage."""
        try:
            return super().invoke(ctx)
        except HocketError as error:
            print(f"hocket: {error}", file=sys.stderr)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    name="hocket",
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train acoustic models and recognise speech on many workers; the answer is that of one.",
    epilog="A first corpus in five minutes, and everything else: README.md and docs/.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hocket {__version__}")
        raise typer.Exit


@app.callback()
def _hocket(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


app.command("prepare")(prepare.prepare)
app.command("train")(train.train)
app.command("recognize")(recognize.recognize)
app.command("score")(score.score)
app.command("compare")(compare.compare)
app.add_typer(lm.app, name="lm")
app.command("export")(export.export)
app.command("plan")(plan.plan)
app.command("scale")(scale.scale)
app.command("probe")(probe.probe)
app.command("hardware")(probe.hardware)
app.add_typer(bench.app, name="bench")
app.command("demo")(demo.demo)
app.add_typer(study.app, name="study")
app.command("fit-batch")(fit_batch.fit_batch)
app.command("average")(average.average)
app.command("info")(info.info)
