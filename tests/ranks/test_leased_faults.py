"""Runs without collectives: workers, shards, the supervisor are killed; the others go on or say why."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hocket.core import events
from jobs import (
    PATIENCE_SECONDS,
    await_end,
    finish,
    held,
    job,
    kill_launcher,
    learnt,
    rank_pid,
    rank_pids,
    train,
    wait_for_step,
)
from small import small_recipe

pytestmark = pytest.mark.slow

STRATEGIES: dict[str, dict[str, Any]] = {
    "synchronous": {"name": "server", "mode": "synchronous", "shards": 2},
    "bounded": {"name": "server", "mode": "bounded", "max_staleness": 2},
    "asynchronous": {"name": "server", "mode": "asynchronous", "shards": 2},
    "gossip": {"name": "gossip", "topology": "random"},
    "hogwild": {"name": "hogwild"},
}
STEPS = 40


def write(folder: Path, corpus: Path, sync: dict[str, Any], **changes: Any) -> Path:
    """A recipe with patience: on a busy machine a process may be slow without being lost."""
    path = folder / "recipe.yaml"
    faults = {"link_seconds": 600, "silence_seconds": 1200}
    settings = {"steps": STEPS, "sync": sync, "faults": faults, "checkpoint": {"every_steps": 10}, **changes}
    path.write_text(json.dumps(small_recipe(corpus, **settings)))
    return path


def of_kind(run: Path, kind: str) -> list[dict[str, Any]]:
    return [event for event in events.read(run / "events.jsonl") if event["event"] == kind]


@pytest.fixture(scope="module")
def planned(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each step must learn from, whoever computes it."""
    folder = tmp_path_factory.mktemp("planned")
    train(write(folder, corpus, {"name": "all_reduce"}), folder / "run", workers=1)
    return learnt(folder / "run")


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_killed_worker_is_named_and_the_others_go_on(
    name: str, corpus: Path, planned: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES[name])
    with job(recipe, run, workers=3, options=held(30, tmp_path / "killed")) as process:
        wait_for_step(run, 3)
        pids = rank_pids(run)
        os.kill(rank_pid(run, 1), signal.SIGKILL)
        (tmp_path / "killed").touch()
        summary = finish(process)
    assert summary["steps"] == STEPS
    (lost,) = of_kind(run, "worker_lost")
    assert lost["rank"] == 1
    assert lost["workers_left"] == 2
    assert "was ended by SIGKILL" in lost["reason"]
    assert len(of_kind(run, "start")) == 1  # nobody was started again
    assert learnt(run) == planned
    await_end(pids)


@pytest.mark.parametrize("name", ["synchronous", "asynchronous"])
def test_a_killed_shard_is_restored_and_said(
    name: str, corpus: Path, planned: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES[name])
    with job(recipe, run, workers=2, options=held(30, tmp_path / "killed")) as process:
        wait_for_step(run, 13)
        workers = rank_pids(run)
        os.kill(shard_pid(process.pid, 1), signal.SIGKILL)
        (tmp_path / "killed").touch()
        summary = finish(process)
    assert summary["steps"] == STEPS
    (lost,) = of_kind(run, "shard_lost")
    assert "shard 1" in lost["reason"]
    assert "SIGKILL" in lost["reason"]
    assert lost["restored_from"] in (10, 20, 30)
    assert not of_kind(run, "worker_lost")  # the same workers went on
    assert learnt(run) == planned
    await_end(workers)


def test_when_no_worker_is_left_it_ends_and_names_the_last(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES["bounded"])
    with job(recipe, run, workers=2, options=held(30, tmp_path / "never")) as process:
        wait_for_step(run, 2)
        for pid in rank_pids(run):
            os.kill(pid, signal.SIGKILL)
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert "no worker is left" in err
    assert "SIGKILL" in err
    assert "--resume" in err


@pytest.mark.parametrize("name", ["bounded", "gossip"])
def test_without_the_supervisor_all_end_and_say_so(name: str, corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES[name])
    with job(recipe, run, workers=2, options=held(30, tmp_path / "never")) as process:
        wait_for_step(run, 2)
        kill_launcher(process, run)
    for log in run.glob("logs/attempt-1/worker-*/stderr.log"):
        assert f"the supervisor (pid {process.pid}" in log.read_text()
    assert train(recipe, run, workers=2, options=("--resume",))["steps"] == STEPS


def test_a_frozen_worker_is_named_ended_and_its_work_done_by_others(corpus: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES["bounded"], faults={"link_seconds": 12})
    with job(recipe, run, workers=2, options=held(30, tmp_path / "frozen")) as process:
        wait_for_step(run, 3)
        frozen = rank_pid(run, 1)
        os.kill(frozen, signal.SIGSTOP)
        (tmp_path / "frozen").touch()
        assert finish(process)["steps"] == STEPS
    (lost,) = of_kind(run, "worker_lost")
    assert lost["rank"] == 1
    assert "said nothing" in lost["reason"]
    await_end([frozen])


def test_a_stopped_run_goes_on_with_other_workers_and_another_strategy(
    corpus: Path, planned: list[Any], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    recipe = write(tmp_path, corpus, STRATEGIES["synchronous"])
    with job(recipe, run, workers=2, options=held(20, run / "stop")) as process:
        wait_for_step(run, 4)
        process.send_signal(signal.SIGTERM)
        told = finish(process)
    assert told["finished"] is False
    reached = told["steps"]
    assert of_kind(run, "checkpoint")[-1]["step"] == reached
    again = ("--resume", "--set", f"steps={reached + 4}")
    assert train(recipe, run, workers=3, options=again)["steps"] == reached + 4
    last = ("--resume", "--set", "sync={name: all_reduce}")
    assert train(recipe, run, workers=2, options=last)["steps"] == STEPS
    assert learnt(run) == planned


def test_workers_that_others_start_join_before_the_shards_are_there(
    corpus: Path, planned: list[Any], tmp_path: Path
) -> None:
    """As under srun: rank 0 brings the supervisor along."""
    recipe, run = write(tmp_path, corpus, STRATEGIES["synchronous"]), tmp_path / "run"
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hocket", "train", str(recipe), "--run-dir", str(run), "--json"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, **place, "RANK": str(rank)})
        for rank in (0, 1)
    ]
    try:
        told = [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0, 0]
    assert json.loads(told[0])["steps"] == STEPS
    assert told[1] == b""
    assert learnt(run) == planned


def shard_pid(supervisor: int, index: int) -> int:
    """Process of a shard, by its name, among the grandchildren of the supervisor."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/comm"):
            pid = int(path.parent.name)
            try:
                if path.read_text().strip() == f"hkt shard {index}" and parent(parent(pid)) == supervisor:
                    return pid
            except OSError:
                continue
        threading.Event().wait(0.05)
    raise AssertionError("no such shard")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
