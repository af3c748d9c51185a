"""Who started this process, and what a process leaves behind."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from hocket.comms.launch import launched_by_others, rank_environment
from hocket.comms.supervision import FolderLock, is_running
from hocket.core.errors import RunError
from jobs import PATIENCE_SECONDS, await_end


def test_slurm_is_recognised_and_translated() -> None:
    slurm = {
        "SLURM_PROCID": "5",
        "SLURM_NTASKS": "8",
        "SLURM_LOCALID": "1",
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NODELIST": "gpu[007-008,12]",
    }
    assert launched_by_others(slurm)
    assert rank_environment(slurm) == {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "MASTER_ADDR": "gpu007",
        "MASTER_PORT": "24711",
    }


def test_torchrun_is_recognised_and_a_plain_shell_is_not() -> None:
    assert launched_by_others({"RANK": "0", "WORLD_SIZE": "2"})
    assert not launched_by_others({})
    assert not launched_by_others({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"})


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    with FolderLock(tmp_path), pytest.raises(RunError, match="in use"), FolderLock(tmp_path):
        pass
    with FolderLock(tmp_path):
        pass


def test_a_process_runs_until_it_has_ended() -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        assert is_running(process.pid)
        process.kill()
        await_end([process.pid])
        assert process.returncode is None  # though nobody has waited for it
    assert not is_running(process.pid)


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    child = (
        "from hocket.comms.supervision import die_with_parent\n"
        "import os, pathlib, time\n"
        "die_with_parent()\n"
        f"pathlib.Path({str(tmp_path / 'new')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'new')!r}, {str(tmp_path / 'pid')!r})\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"]
    )
    pid_file = tmp_path / "pid"
    deadline = time.monotonic() + PATIENCE_SECONDS
    try:
        while not pid_file.exists():
            assert time.monotonic() < deadline, "the child did not start"
            time.sleep(0.02)
    finally:
        parent.kill()
        parent.wait()
    await_end([int(pid_file.read_text())])
