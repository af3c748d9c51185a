"""Who is frozen is ended and who is gone is named, however busy the machine is."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from hocket.comms.heartbeat import Beat
from hocket.training import launch
from hocket.training.folder import RunFolder


def write_beat(folder: RunFolder, rank: int, pid: int, written: float, host: str = "") -> None:
    folder.heartbeats.mkdir(exist_ok=True)
    beat = Beat(rank, pid, host or os.uname().nodename, 3, "computing", written, written)
    (folder.heartbeats / f"rank-{rank}.json").write_text(json.dumps(asdict(beat)))


def test_a_rank_whose_file_stays_as_it_is_is_ended_and_one_of_long_ago_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []
    monkeypatch.setattr(launch.os, "kill", lambda pid, _number: killed.append(pid))
    folder = RunFolder(tmp_path)
    watch = launch._Watch(folder, 1.0)
    for written in (1.0, 2.0):  # by the clock both are silent since long
        write_beat(folder, 0, 7, written)
        write_beat(folder, 1, 8, written, "another-host")
        for _ in range(5):
            watch.look()
        assert killed == []
    for _ in range(2):
        watch.look()
    assert killed == [7]


def test_who_is_silent_and_runs_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One rank was killed; another waits for a core that others have."""
    monkeypatch.setattr(launch, "_SILENT_SECONDS", 0.0)
    gone = subprocess.Popen(["true"])
    gone.wait()
    folder = RunFolder(tmp_path)
    for rank, pid in ((0, gone.pid), (1, os.getpid())):
        write_beat(folder, rank, pid, 1.0)
    write_beat(folder, 2, os.getpid(), 1.0, "another-host")
    said = launch._who_is_gone(folder)
    assert f"rank 0 (pid {gone.pid} on " in said
    assert "rank 1" not in said
    assert f"rank 2 (pid {os.getpid()} on another-host, at step 3) is gone" in said
