"""Jobs that several processes share: each done once, in whatever order, and not again after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from hocket.comms import errands
from hocket.core.errors import CorpusError, WorkerLost

HERE = "hocket.core.seeds:key"
"""A function that any process can import: of a job it makes a number."""


def test_results_are_in_the_order_of_the_jobs_for_any_workers(tmp_path: Path) -> None:
    jobs = [f"job {number}" for number in range(9)]
    told: list[int] = []
    alone = list(errands.run(tmp_path / "one", HERE, jobs, 1, told.append))
    assert told == list(range(10))
    assert list(errands.run(tmp_path / "three", HERE, jobs, 3)) == alone
    assert len(set(alone)) == 9


def test_what_was_done_is_not_done_again(tmp_path: Path) -> None:
    jobs = list(range(4))
    expected = list(errands.run(tmp_path, HERE, jobs, 1))
    (tmp_path / "1.result").unlink()
    (tmp_path / "2.result").write_bytes(b"")  # torn by a power cut
    before = {number: (tmp_path / f"{number}.result").stat().st_mtime_ns for number in (0, 3)}
    assert list(errands.run(tmp_path, HERE, jobs, 1)) == expected
    assert before == {number: (tmp_path / f"{number}.result").stat().st_mtime_ns for number in (0, 3)}


def test_an_error_of_a_job_is_raised_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(job: int) -> int:
        raise CorpusError(f"job {job}", "do this")

    with monkeypatch.context() as patch, pytest.raises(CorpusError, match=r"job 0\n  do this"):
        patch.setattr("hocket.core.seeds.key", fails)
        list(errands.run(tmp_path, HERE, [0, 1], 1))
    assert not (tmp_path / "0.result").exists()


def test_a_worker_that_ends_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(WorkerLost, match=r"worker \d .*left with status 1, 3 of 3 jobs undone"):
        list(errands.run(tmp_path, "math:sqrt", ["no number", "none", "nor this"], 2))
