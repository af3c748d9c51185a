"""Waiting in the middle of a run until a file is there, for studies of what is done to the run meanwhile."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

_POLL_SECONDS = 0.01


def hold(files: Mapping[int, Path], step: int) -> None:
    """Return once the file of ``step`` is there, if it has one."""
    path = files.get(step)
    while path is not None and not path.exists():
        time.sleep(_POLL_SECONDS)
