"""Calls in processes of their own that are made as workers are.

What a process held once it may never give back, and allocators differ in what a micro-batch costs. So each
thing that is measured or tried has a process of its own, forked from one that has imported what workers need,
with the allocator and the settings of libraries that workers are started with.
"""

from __future__ import annotations

import pickle
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from hocket.comms.ranks import Ranks
from hocket.core.errors import HocketError, RunError

# What workers import before they are forked, and with it what is called here.
from hocket.training import worker  # noqa: F401

T = TypeVar("T")
_POLL_SECONDS = 1.0


class Apart(AbstractContextManager["Apart"]):
    """Makes the calls, one at a time; ``environment`` holds what libraries must find."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._ranks = Ranks("hocket.studies.fit_batch.apart", environment)

    def call(self, function: Callable[..., T], *arguments: Any) -> T | None:
        """``function(*arguments)``, both of which must bear pickling; None when the process was ended.

        Raises what the call raises: an error of hocket as it is, any other as :class:`RunError`.
        """
        with tempfile.TemporaryDirectory() as folder:
            asked, answered = Path(folder, "asked"), Path(folder, "answered")
            asked.write_bytes(pickle.dumps((function, arguments)))
            self._ranks.run_apart(
                [[str(asked), str(answered)]],
                log_dir=Path(folder, "logs"),
                poll=lambda: None,
                seconds=_POLL_SECONDS,
            )
            if not answered.is_file():
                return None
            error, value = pickle.loads(answered.read_bytes())
        if error is not None:
            raise error
        answer: T = value
        return answer

    def __exit__(self, *of: object) -> None:
        self._ranks.__exit__(*of)


def main() -> None:
    """A process that makes one call."""
    asked, answered = map(Path, sys.argv[1:])
    function, arguments = pickle.loads(asked.read_bytes())
    error, value = None, None
    try:
        value = function(*arguments)
    except HocketError as raised:
        error = raised
    except Exception as raised:
        error = RunError(f"{type(raised).__name__}: {raised}")
    whole = answered.with_suffix(".tmp")
    whole.write_bytes(pickle.dumps((error, value)))
    whole.rename(answered)
