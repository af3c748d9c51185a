"""Running ``hocket`` as a user does, in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src"
STEPS = 6


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    def answer(self) -> dict[str, Any]:
        """The one object on standard output: nothing else may be there."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    def refused(self, status: int, *said: str) -> None:
        """The command failed with this status, said this, gave no answer and no traceback."""
        assert self.status == status, f"{self.status}: {self.err}"
        assert self.out == ""
        assert "Traceback" not in self.err
        for each in said:
            assert each in self.err


Hocket = Callable[..., Done]


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(SOURCE), os.environ.get("PYTHONPATH")]))
    return os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "100"}


@dataclass(frozen=True)
class Trained:
    """A run that has ended, and how its command ended."""

    folder: Path
    done: Done
