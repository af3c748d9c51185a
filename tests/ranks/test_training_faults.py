"""Killed, frozen, stopped, resumed on other numbers of workers: the same weights, bit for bit."""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hocket.comms.launch import EXIT_PEER_LOST
from hocket.core import events
from hocket.training import launch
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
from ports import free_port
from processes import start_apart
from small import small_recipe

EXACT = {"numerics": {"exact": True}}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def draw() -> random.Random:
    seed = int(os.environ.get("HOCKET_TEST_SEED", str(time.time_ns() % 2**32)))
    print(f"HOCKET_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(scope="module")
def undisturbed(
    corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """What one worker makes of the recipe that the tests below disturb."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = folder / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus, **EXACT)))
    run = folder / "run"
    return train(recipe, run, workers=1), learnt(run)


@pytest.fixture
def recipe(corpus: Path, tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(small_recipe(corpus, **EXACT)))
    return path


def test_a_killed_worker_costs_time_and_nothing_else(
    recipe: Path, tmp_path: Path, undisturbed: Any, draw: random.Random
) -> None:
    run, step, rank = tmp_path / "run", draw.randrange(1, 14), draw.randrange(3)
    print(f"SIGKILL of rank {rank} at step {step}")
    with job(recipe, run, workers=3, options=held(15, tmp_path / "killed")) as process:
        wait_for_step(run, step)
        pids = rank_pids(run)
        os.kill(rank_pid(run, rank), signal.SIGKILL)
        (tmp_path / "killed").touch()
        summary = finish(process)
    assert summary["weights_sha256"] == undisturbed[0]["weights_sha256"]
    assert learnt(run) == undisturbed[1]
    restarts = [event for event in events.read(run / "events.jsonl") if event["event"] == "restart"]
    assert len(restarts) == 1
    assert restarts[0]["rank"] == rank
    assert "SIGKILL" in restarts[0]["reason"]
    await_end(pids)


def test_a_killed_job_goes_on_with_fewer_workers(
    recipe: Path, tmp_path: Path, undisturbed: Any, draw: random.Random
) -> None:
    run, step = tmp_path / "run", draw.randrange(1, 14)
    print(f"SIGKILL of the job at step {step}")
    with job(recipe, run, workers=3, options=held(15, tmp_path / "never")) as process:
        wait_for_step(run, step)
        assert len(rank_pids(run)) == 3
        kill_launcher(process, run)
    summary = train(recipe, run, workers=2, options=("--resume",))
    assert summary["workers"] == 2
    assert summary["weights_sha256"] == undisturbed[0]["weights_sha256"]
    assert learnt(run) == undisturbed[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_leaves_with_success(
    number: signal.Signals, recipe: Path, tmp_path: Path, undisturbed: Any, draw: random.Random
) -> None:
    run, step = tmp_path / "run", draw.randrange(1, 12)
    print(f"{number.name} at step {step}")
    with job(recipe, run, workers=2, options=held(13, run / "stop")) as process:
        wait_for_step(run, step)
        pids = rank_pids(run)
        process.send_signal(number)
        told = finish(process)
    assert told["finished"] is False
    await_end(pids)
    reached = [
        event["step"] for event in events.read(run / "events.jsonl") if event["event"] == "checkpoint"
    ][-1]
    assert reached == told["steps"]  # not one step is done again
    if number == signal.SIGTERM:
        summary = train(recipe, run, workers=3, options=("--resume",))
        assert summary["weights_sha256"] == undisturbed[0]["weights_sha256"]


def test_a_frozen_worker_is_named_ended_and_replaced(recipe: Path, tmp_path: Path, undisturbed: Any) -> None:
    run = tmp_path / "run"
    options = (*held(12, tmp_path / "frozen"), "--set", "faults.silence_seconds=4")
    with job(recipe, run, workers=2, options=options) as process:
        wait_for_step(run, 4)
        os.kill(rank_pid(run, 1), signal.SIGSTOP)
        (tmp_path / "frozen").touch()
        summary = finish(process)
    assert summary["weights_sha256"] == undisturbed[0]["weights_sha256"]
    restarts = [event for event in events.read(run / "events.jsonl") if event["event"] == "restart"]
    assert [event["rank"] for event in restarts] == [1]


def test_without_the_rank_that_all_meet_at_the_others_end_and_name_it(recipe: Path, tmp_path: Path) -> None:
    """As under srun: the store is in rank 0, and nobody starts ranks again."""
    run = tmp_path / "run"
    port, killed = free_port(), tmp_path / "killed"
    processes = [start_apart(join, rank, port, recipe, run, killed) for rank in range(3)]
    try:
        wait_for_step(run, 4)
        first = rank_pid(run, 0)
        os.kill(first, signal.SIGKILL)
        killed.touch()
        for process in processes:
            process.join(PATIENCE_SECONDS)
    finally:
        for process in processes:
            process.kill()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL, EXIT_PEER_LOST, EXIT_PEER_LOST]
    for rank in (1, 2):
        *_, said, hint = (tmp_path / f"rank-{rank}.log").read_text().strip().splitlines()
        assert f"rank 0 (pid {first} on " in said
        assert "rank 1" not in said and "rank 2" not in said
        assert "--resume" in hint


def join(rank: int, port: int, recipe: Path, run: Path, killed: Path) -> None:
    """Be one rank of a job that somebody else started; for a process of its own.

    None begins step 12 before ``killed`` is there.
    """
    place = {"WORLD_SIZE": "3", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ.update(place)
    with (run.parent / f"rank-{rank}.log").open("w") as log:
        os.dup2(log.fileno(), 2)
    status = launch.join(recipe, run=run, overrides=held(12, killed)[1:])
    sys.stderr.flush()
    os._exit(status)


def test_more_workers_than_micro_batches(recipe: Path, tmp_path: Path, undisturbed: Any) -> None:
    options = ("--set", "batch.micro_batches_per_step=1")
    one = train(recipe, tmp_path / "one", workers=1, options=options)
    two = train(recipe, tmp_path / "two", workers=2, options=options)
    assert one["weights_sha256"] == two["weights_sha256"]
    assert two["imbalance"] == pytest.approx(2.0)


def test_plain_sums_agree_to_rounding(corpus: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(small_recipe(corpus)))
    steps = []
    for workers in (1, 3):
        run = tmp_path / f"run-{workers}"
        train(recipe, run, workers=workers)
        steps.append(events.surviving_steps(run / "events.jsonl"))
    assert len(steps[0]) == 16
    for one, three in zip(*steps, strict=True):
        assert three["loss"] == pytest.approx(one["loss"], rel=1e-5)
        assert three["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-4)
        assert three["utterances"] == one["utterances"]
