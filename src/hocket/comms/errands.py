"""Independent pieces of work, done by several processes, each once, also over a kill and a new start.

``run`` calls one function with each of some jobs. A job's result is a file that is whole or not there, so
what was done before a kill is not done again. Which process does what depends on who is free; the
results do not. Workers are forked from a process that has imported the function's module and nothing
else (:mod:`hocket.comms.nursery`).
"""

from __future__ import annotations

import fcntl
import importlib
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hocket.core import files
from hocket.core.errors import HocketError, WorkerLost

_POLL_SECONDS = 0.25
_JOBS, _NEXT = "jobs", "next"


def run(
    folder: Path,
    function: str,
    jobs: Sequence[Any],
    workers: int,
    progress: Callable[[int], None] = lambda done: None,
) -> Iterator[Any]:
    """``function`` (``module:name``) of each job, in the order of the jobs; pickled in ``folder``.

    Results that ``folder`` holds are taken as they are: it must be named after what the jobs are. An
    error of hocket that a job raises is raised here; a worker that ends otherwise is :class:`WorkerLost`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    todo = [number for number in range(len(jobs)) if not _result(folder, number).is_file()]
    progress(len(jobs) - len(todo))
    if workers == 1 or len(todo) <= 1:
        work = _find(function)
        for done, number in enumerate(todo, len(jobs) - len(todo) + 1):
            _do(folder, work, number, jobs[number])
            progress(done)
    else:
        _run_apart(folder, function, jobs, todo, min(workers, len(todo)), progress)
    for number, job in enumerate(jobs):
        try:
            value = pickle.loads(_result(folder, number).read_bytes())
        except (EOFError, pickle.UnpicklingError):  # of a try that the power went out on
            _do(folder, _find(function), number, job)
            value = pickle.loads(_result(folder, number).read_bytes())
        if isinstance(value, HocketError):
            _result(folder, number).unlink()
            raise value
        yield value


def _run_apart(
    folder: Path,
    function: str,
    jobs: Sequence[Any],
    todo: list[int],
    workers: int,
    progress: Callable[[int], None],
) -> None:
    from hocket.comms.ranks import Ranks

    files.write_bytes(folder / _JOBS, pickle.dumps([(number, jobs[number]) for number in todo]))
    files.write_bytes(folder / _NEXT, struct.pack("q", 0))
    waiting = set(todo)

    def poll() -> None:
        waiting.difference_update([number for number in waiting if _result(folder, number).is_file()])
        progress(len(jobs) - len(waiting))

    module = function.partition(":")[0]
    with Ranks("hocket.comms.errands", {"HOCKET_ERRAND_MODULE": module}) as ranks:
        lost = ranks.run_apart(
            [[str(folder), function]] * workers, log_dir=folder / "logs", poll=poll, seconds=_POLL_SECONDS
        )
    poll()
    if waiting:
        words = lost[0].log.read_text(errors="replace")[-2000:] if lost and lost[0].log.is_file() else ""
        who = lost[0].describe().replace("rank", "worker") if lost else "a worker left early"
        raise WorkerLost(f"{who}, {len(waiting)} of {len(jobs)} jobs undone\n{words}", "Start it again.")


def main() -> None:
    """A worker: take one job after another until none is left."""
    folder, function = Path(sys.argv[1]), sys.argv[2]
    work = _find(function)
    jobs = pickle.loads((folder / _JOBS).read_bytes())
    while (place := _take(folder / _NEXT)) < len(jobs):
        _do(folder, work, *jobs[place])


def _take(path: Path) -> int:
    """The next place, to this caller alone."""
    with path.open("rb+", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (place,) = struct.unpack("q", file.read(8))
        file.seek(0)
        file.write(struct.pack("q", place + 1))
    return int(place)


def _do(folder: Path, work: Callable[[Any], Any], number: int, job: Any) -> None:
    try:
        value = work(job)
    except HocketError as error:
        value = error
    # Not forced onto the disk: what a power cut takes is done again.
    temporary = folder / f".{number}.{os.getpid()}.tmp"
    temporary.write_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    temporary.replace(_result(folder, number))


def _result(folder: Path, number: int) -> Path:
    return folder / f"{number}.result"


def _find(function: str) -> Callable[[Any], Any]:
    module, _, name = function.partition(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), name)
    return found


if "HOCKET_ERRAND_MODULE" in os.environ:  # imported to be forked: have what the workers need
    try:
        importlib.import_module(os.environ["HOCKET_ERRAND_MODULE"])
    except Exception:
        traceback.print_exc()
        raise
