"""Where a command's answer goes: standard output, as text for people or as one JSON object."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType

_PIPE_WIDTH = 200

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")
]


class Output:
    """Holds a command's answer until the command is through."""

    def __init__(self) -> None:
        self.answer: object = None
        self.draw: Callable[[], RenderableType] | None = None

    def give(self, answer: object, draw: Callable[[], RenderableType]) -> None:
        """The answer as data (a dataclass or mapping), and how to draw it for people."""
        self.answer, self.draw = answer, draw


@contextmanager
def reporting(as_json: bool) -> Iterator[Output]:
    """Everything printed inside goes to standard error; the answer alone to standard output.

    This holds for child processes and for libraries that write to the file descriptor. Without
    ``as_json`` the answer is drawn. A command that gives no answer prints none.
    """
    output = Output()
    sys.stdout.flush()
    answers = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield output
    finally:
        sys.stdout.flush()
        os.dup2(answers, 1)
        os.close(answers)
    if output.draw is None:
        return
    if as_json:
        sys.stdout.write(to_json(output.answer) + "\n")
    else:
        _console().print(output.draw())
    sys.stdout.flush()


def _console() -> Console:
    """As wide as the terminal; into a file or pipe, wide enough that paths stay in one piece."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def to_json(answer: object) -> str:
    """One line of strict JSON: numbers that are not finite become null, paths text."""
    return json.dumps(plain(answer), ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Dataclasses, mappings, sequences, paths and numpy numbers as what JSON knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if hasattr(value, "item"):
        return plain(value.item())
    raise TypeError(f"no JSON for {type(value).__name__}")
