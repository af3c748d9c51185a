"""A rank that falls silent says where it stands, and ends."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hocket.comms.heartbeat import EXIT_HUNG, Heartbeat, read_beats
from hocket.core import clock

SILENT = """
import sys, time
from pathlib import Path
from hocket.comms.heartbeat import WAITING, Heartbeat

def the_place_where_it_hangs():
    time.sleep(60)

heartbeat = Heartbeat(Path(sys.argv[1]), rank=3, limit=1.0)
heartbeat.beat(WAITING if sys.argv[2] == "waiting" else "computing", step=17)
the_place_where_it_hangs()
"""


def run_silent(folder: Path, how: str) -> tuple[subprocess.CompletedProcess[str], float]:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SILENT, str(folder), how],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done, time.monotonic() - began


def test_a_silent_rank_dumps_its_stack_names_itself_and_ends(tmp_path: Path) -> None:
    done, _ = run_silent(tmp_path, "computing")
    assert done.returncode == EXIT_HUNG
    assert "rank 3" in done.stderr
    assert "'computing' at step 17" in done.stderr
    assert "the_place_where_it_hangs" in done.stderr


def test_a_rank_that_waits_for_others_is_given_twice_the_time(tmp_path: Path) -> None:
    done, seconds = run_silent(tmp_path, "waiting")
    assert done.returncode == EXIT_HUNG
    assert seconds > 2.0


def test_time_in_which_nobody_could_run_is_not_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a machine slept, or a process was stopped: the clock is far on, and nothing hangs."""
    ended: list[int] = []
    monkeypatch.setattr("hocket.comms.heartbeat.os._exit", ended.append)
    heartbeat = Heartbeat(tmp_path, rank=1, limit=60.0)
    heartbeat.beat("computing", 3)
    later = clock.wall() + 1000.0
    monkeypatch.setattr(clock, "wall", lambda: later)
    deadline = time.monotonic() + 60
    while read_beats(tmp_path)[0].written < later:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    heartbeat.close()
    assert ended == []


def test_beats_can_be_read_by_others_and_go_when_the_rank_does(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path, rank=1, limit=60.0)
    beats = read_beats(tmp_path)
    assert [(beat.rank, beat.phase) for beat in beats] == [(1, "starting")]
    (tmp_path / "rank-2.json").write_text("half of")
    assert len(read_beats(tmp_path)) == 1
    heartbeat.close()
    (tmp_path / "rank-2.json").unlink()
    assert read_beats(tmp_path) == []
