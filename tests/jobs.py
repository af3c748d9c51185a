"""Training jobs as a user starts them, and ways of disturbing them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hocket.comms.heartbeat import read_beats
from hocket.comms.supervision import is_running
from hocket.core import events

PATIENCE_SECONDS = 180.0


@contextmanager
def job(
    recipe: Path, run: Path, *, workers: int, options: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """``hocket train`` as a process of its own; nothing of it is left afterwards."""
    command = [sys.executable, "-m", "hocket", "train", str(recipe), "--run", str(run)]
    command += ["--workers", str(workers), "--json", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a job that must succeed; what it printed."""
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0, f"status {process.returncode}\n{err}"
    told: dict[str, Any] = json.loads(out)
    return told


def train(recipe: Path, run: Path, *, workers: int, options: tuple[str, ...] = ()) -> dict[str, Any]:
    """A job from its start to its end."""
    with job(recipe, run, workers=workers, options=options) as process:
        return finish(process)


def held(step: int, until: Path) -> tuple[str, str]:
    """Options of a job that begins ``step`` when the file ``until`` is there: it does not end before."""
    return "--set", f"debug.hold={{{step}: '{until}'}}"


def wait_for_step(run: Path, step: int, attempt: int = 1) -> None:
    """Return as soon as the run has written that step."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    path = run / "events.jsonl"
    while True:
        for event in events.read(path):
            if event["event"] == "step" and event["step"] >= step and event["attempt"] >= attempt:
                return
            assert event["event"] != "end", f"the run ended before step {step}"
        assert time.monotonic() < deadline, f"step {step} was not reached"
        time.sleep(0.01)


def rank_pid(run: Path, rank: int) -> int:
    """Process of a rank, from its heartbeat."""
    return next(beat.pid for beat in read_beats(run / "heartbeats") if beat.rank == rank)


def rank_pids(run: Path) -> list[int]:
    """Processes of all ranks."""
    return [beat.pid for beat in read_beats(run / "heartbeats")]


def await_end(pids: Iterable[int], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when none of the processes runs any more; a zombie does not."""
    deadline, left = time.monotonic() + seconds, list(pids)
    while left := [pid for pid in left if is_running(pid)]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)


def kill_launcher(process: subprocess.Popen[str], run: Path) -> None:
    """SIGKILL for the launcher alone; returns when its ranks have ended with it."""
    pids = rank_pids(run)
    assert pids
    process.kill()
    process.wait()
    await_end(pids)


def learnt(run: Path) -> list[tuple[int, int]]:
    """(step, digest of utterances) of the steps that made the weights."""
    return [(event["step"], event["utterances"]) for event in events.surviving_steps(run / "events.jsonl")]
