"""Ranks forked from a nursery: how they end, what is left of them, and that imports happen once."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hocket.comms.ranks import Ranks
from hocket.comms.supervision import is_running
from jobs import await_end

WORKER = """
    import os, pathlib, signal, sys, time
    imported_by = os.getpid()

    def main():
        rank, what, out = int(os.environ["RANK"]), sys.argv[1], pathlib.Path(sys.argv[2])
        if what == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        mine = out.joinpath(f"{os.environ['RANK']}.tmp")
        mine.write_text(f"{os.getpid()} {imported_by}")
        mine.rename(mine.with_suffix(".pid"))
        print("out of", rank)
        print("error of", rank, file=sys.stderr)
        if what == "raise" and rank == 1:
            raise ValueError("a fault of the program")
        if what == "exit" and rank == 1:
            sys.exit(3)
        if what == "die" and rank == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if what in ("deaf", "raise", "exit", "die", "wait"):
            while len(list(out.glob("*.pid"))) < int(os.environ["WORLD_SIZE"]):
                time.sleep(0.01)
            if what == "deaf" and rank == 0:
                sys.exit(4)
            time.sleep(60)
"""


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    """Ranks of a module of a few lines."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "small_worker.py").write_text(textwrap.dedent(WORKER))
    path = os.pathsep.join([str(tmp_path / "modules"), *filter(None, sys.path)])
    with Ranks("small_worker", {"PYTHONPATH": path}) as ranks:
        yield ranks


def pids(out: Path) -> list[tuple[int, int]]:
    """(pid, who imported the module) by rank."""
    return [
        (int(path.read_text().split()[0]), int(path.read_text().split()[1]))
        for path in sorted(out.glob("*.pid"))
    ]


def test_all_ranks_leave_with_success_and_are_forks_of_one_process(ranks: Ranks, tmp_path: Path) -> None:
    nurseries = set()
    for attempt in ("one", "two"):
        out = tmp_path / attempt
        out.mkdir()
        end = ranks.run_attempt(["leave", str(out)], workers=3, log_dir=tmp_path / attempt)
        assert (end.failed, end.teardown_seconds) == ([], 0.0)
        assert (out / "rank-2.out").read_text() == "out of 2\n"
        assert (out / "rank-2.err").read_text() == "error of 2\n"
        found = pids(out)
        assert len({pid for pid, _ in found}) == 3
        nurseries |= {by for _, by in found}
    assert len(nurseries) == 1  # of both attempts: nothing was imported twice


@pytest.mark.parametrize(
    ("what", "rank", "code"), [("raise", 1, 1), ("exit", 1, 3), ("die", 0, -signal.SIGKILL)]
)
def test_who_failed_first_is_named_and_the_others_are_ended(
    what: str, rank: int, code: int, ranks: Ranks, tmp_path: Path
) -> None:
    end = ranks.run_attempt([what, str(tmp_path)], workers=2, log_dir=tmp_path / "logs")
    assert [(each.rank, each.exit_code) for each in end.failed] == [(rank, code), (1 - rank, -signal.SIGTERM)]
    assert ("a fault of the program" in end.failed[0].log.read_text()) == (what == "raise")


def test_who_does_not_hear_is_killed_after_the_grace(ranks: Ranks, tmp_path: Path) -> None:
    end = ranks.run_attempt(["deaf", str(tmp_path)], workers=2, log_dir=tmp_path / "logs", grace_seconds=0.2)
    assert [(each.rank, each.exit_code) for each in end.failed] == [(0, 4), (1, -signal.SIGKILL)]
    assert end.teardown_seconds >= 0.2


def test_ranks_end_with_their_nursery_and_the_next_attempt_has_a_new_one(
    ranks: Ranks, tmp_path: Path
) -> None:
    def kill_the_nursery() -> None:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(pids(tmp_path)[0][1], signal.SIGKILL)

    killer = threading.Thread(target=kill_the_nursery)
    killer.start()
    end = ranks.run_attempt(["wait", str(tmp_path)], workers=2, log_dir=tmp_path / "logs")
    killer.join()
    assert [each.exit_code for each in end.failed] == [-signal.SIGKILL] * 2
    await_end([pid for pid, _ in pids(tmp_path)])
    assert ranks.run_attempt(["leave", str(tmp_path)], workers=2, log_dir=tmp_path / "logs").failed == []


def test_leaving_the_block_leaves_no_process(tmp_path: Path, ranks: Ranks) -> None:
    ranks.run_attempt(["leave", str(tmp_path)], workers=1, log_dir=tmp_path / "logs")
    nursery = pids(tmp_path)[0][1]
    assert is_running(nursery)
    ranks.__exit__(None, None, None)
    assert not is_running(nursery)


def test_a_module_that_cannot_be_imported_is_a_fault_of_the_program(tmp_path: Path) -> None:
    with Ranks("no_such_module_here", {}) as ranks, pytest.raises(RuntimeError, match="not be imported"):
        ranks.run_attempt([], workers=1, log_dir=tmp_path)
