"""Training jobs as a user starts them, and ways of disturbing them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hocket.comms.heartbeat import read_beats
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


def await_end(pids: list[int], seconds: float = 20.0) -> None:
    """Return when none of the processes runs any more; a zombie does not."""
    deadline = time.monotonic() + seconds
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if running(pid)]}"
        time.sleep(0.05)


def running(pid: int) -> bool:
    """True when the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def learnt(run: Path) -> list[tuple[int, int]]:
    """(step, digest of utterances) of the steps that made the weights."""
    return [(event["step"], event["utterances"]) for event in events.surviving_steps(run / "events.jsonl")]
