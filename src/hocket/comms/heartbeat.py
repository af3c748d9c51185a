"""Heartbeats: who is alive, what it is doing, and who holds the others up.

Each rank writes ``rank-K.json`` once a second from a thread and says what its main thread does and
since when. A main thread that stays silent in a phase of its own (reading, computing) for longer
than the limit is the culprit: its stack goes to its log, its name to the events, the process ends,
and the others are restarted from the last checkpoint. A rank that starts, or waits for others, is not
suspected before twice that time. A process that is frozen altogether cannot speak for itself: the
launcher sees an old file and kills it.

Silence is counted in turns of who listens, not by a clock: time in which a process was stopped, or the
whole machine slept, passes for nobody, and nobody is suspected for it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hocket.core import clock

EXIT_HUNG = 76
"""Exit status of a worker that ended itself because it was silent for too long."""

STARTING = "starting"
WAITING = "waiting for other ranks"


@dataclass(frozen=True)
class Beat:
    """The content of a heartbeat file."""

    rank: int
    pid: int
    host: str
    step: int
    phase: str
    since: float
    """Wall time of the last sign of life of the main thread."""
    written: float
    """Wall time at which the file was written."""


class Heartbeat:
    """This rank's heartbeat. ``limit`` is the silence in seconds that ends the process."""

    def __init__(self, folder: Path, rank: int, limit: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"rank-{rank}.json"
        self._limit = limit
        self._beat = Beat(rank, os.getpid(), os.uname().nodename, -1, STARTING, clock.wall(), 0.0)
        self._stop = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def beat(self, phase: str, step: int | None = None) -> None:
        """The main thread is alive and enters ``phase``."""
        before = self._beat
        step = before.step if step is None else step
        self._beat = replace(before, phase=phase, since=clock.wall(), step=step)  # all of it at one stroke

    def close(self) -> None:
        """Stop beating and remove the file."""
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _run(self) -> None:
        turn, heard, silent = min(1.0, self._limit / 5), self._beat, 0.0
        while not self._stop.wait(turn):
            beat = self._beat
            silent = silent + turn if beat is heard else 0.0
            heard = beat
            if silent > (2 * self._limit if beat.phase in (STARTING, WAITING) else self._limit):
                print(
                    f"rank {beat.rank} on {beat.host} was silent for {silent:.0f} s "
                    f"in phase {beat.phase!r} at step {beat.step}; its stack:",
                    file=sys.stderr,
                )
                faulthandler.dump_traceback(sys.stderr, all_threads=True)
                sys.stderr.flush()
                os._exit(EXIT_HUNG)
            try:
                self._write()
            except OSError:
                continue  # a full disk must not end a healthy rank; the launcher is patient

    def _write(self) -> None:
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps(asdict(replace(self._beat, written=clock.wall()))))
        temporary.replace(self._path)


def silent_since(before: Sequence[Beat], after: Sequence[Beat]) -> list[Beat]:
    """Ranks that gave no sign of life between two readings, and did not take leave either.

    The readings are to be further apart than heartbeats are. Clocks of several hosts need not agree.
    """
    now = {beat.rank: beat for beat in after}
    return [beat for beat in before if beat.rank in now and now[beat.rank].written == beat.written]


def read_beats(folder: Path) -> list[Beat]:
    """The latest heartbeat of every rank, by rank."""
    beats = []
    for path in folder.glob("rank-*.json"):
        try:
            beats.append(Beat(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):
            continue  # being replaced or removed at this moment
    return sorted(beats, key=lambda beat: beat.rank)
