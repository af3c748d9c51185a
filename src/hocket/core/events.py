"""Events of a run: one JSON object a line, appended; the source of every report.

A line carries ``event`` (its kind), ``attempt`` (how often the workers were started) and ``time``
(seconds since the epoch). After a crash the steps since the last checkpoint are run again: what
counts is the *surviving* sequence, the last line of each step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hocket.core import clock

Event = dict[str, Any]


class EventLog:
    """Appends events to a file. A line is written in one piece, so readers see whole lines."""

    def __init__(self, path: Path, attempt: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _end_torn_line(path)
        self._file = path.open("ab", buffering=0)
        self._attempt = attempt

    def write(self, event: str, **fields: Any) -> None:
        """Append one event."""
        line = {"event": event, "attempt": self._attempt, "time": round(clock.wall(), 3), **fields}
        self._file.write((json.dumps(line, ensure_ascii=False) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(path: Path) -> Iterator[Event]:
    """All whole events of a file, in order; a line torn by a crash is passed over."""
    for event, _offset in follow(path, 0):
        yield event


def follow(path: Path, offset: int) -> Iterator[tuple[Event, int]]:
    """Whole events after byte ``offset``, each with the offset to go on from."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event, offset


def surviving_steps(path: Path) -> list[Event]:
    """The ``step`` events that made the final weights, by step: later attempts replace earlier ones."""
    steps: dict[int, Event] = {}
    for event in read(path):
        if event.get("event") == "start":
            first = int(event.get("step", 0))
            steps = {number: kept for number, kept in steps.items() if number < first}
        elif event.get("event") == "step":
            steps[int(event["step"])] = event
    return [steps[number] for number in sorted(steps)]


def _end_torn_line(path: Path) -> None:
    if not path.exists() or path.stat().st_size == 0:
        return
    with path.open("rb+") as file:
        file.seek(-1, 2)
        if file.read(1) != b"\n":
            file.write(b"\n")
