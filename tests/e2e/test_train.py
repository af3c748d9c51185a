"""``hocket train`` and ``hocket info`` as a user types them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import STEPS, Hocket, Trained, environment

from hocket.hardware import libraries


def test_a_run_leaves_what_it_promises(trained: Trained) -> None:
    names = {path.name for path in trained.folder.iterdir()}
    assert {"recipe.yaml", "events.jsonl", "summary.json", "checkpoints", "model", "tensorboard"} <= names
    assert {path.name for path in (trained.folder / "model").iterdir()} >= {
        "model.safetensors",
        "config.json",
        "tokens.json",
    }
    events = [json.loads(line) for line in (trained.folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == list(range(STEPS))
    promised = "attempt step loss grad_norm lr num_frames num_utterances seconds padding imbalance"
    for step in steps:
        assert set(promised.split()) <= step.keys()
        assert {"data", "compute", "communication", "wait"} <= step["seconds"].keys()


def test_the_answer_is_the_summary(trained: Trained) -> None:
    answer = trained.done.answer()
    summary = json.loads((trained.folder / "summary.json").read_text())
    promised = (
        "steps workers layout precision wall_seconds audio_seconds audio_per_second padding imbalance "
        "weights_sha256 num_dropped"
    )
    assert set(promised.split()) <= summary.keys()
    assert {name: answer[name] for name in summary} == summary
    assert (summary["steps"], summary["workers"]) == (STEPS, 2)
    assert "training on 2 workers" in trained.done.err


def test_workers_have_the_fastest_allocator_of_the_machine(hocket: Hocket, trained: Trained) -> None:
    told = hocket("info", trained.folder, "--json").answer()
    assert told["allocator"] == next(iter(libraries.available()), "system")


def test_a_second_run_in_the_folder_is_refused(hocket: Hocket, recipe: Path, trained: Trained) -> None:
    before = (trained.folder / "events.jsonl").read_bytes()
    hocket("train", recipe, "--run", trained.folder).refused(1, "holds a run already", "--resume", "--run")
    assert (trained.folder / "events.jsonl").read_bytes() == before


def test_an_unknown_key_is_named_with_its_line(hocket: Hocket, recipe: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(recipe.read_text() + "optimiser:\n  learnrate: 1.0\n  warmup_step: 5\n")
    done = hocket("train", wrong, "--run", tmp_path / "run")
    line = wrong.read_text().splitlines().index("  warmup_step: 5") + 1
    done.refused(2, f"{wrong}:{line}", "optimiser.warmup_step", "'warmup_steps'", "learnrate")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "batch.second=3"], "'seconds'"),
        (["--set", "steps"], "key.path=value"),
        (["--set", "steps=0"], "steps"),
        (["--set", "corpus=nowhere"], "hocket prepare SOURCE nowhere"),
        (["--resume"], "--run"),
        (["--workers", "0"], "--workers"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_usage_leaves_with_2(
    hocket: Hocket, recipe: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    hocket("train", recipe, *words, cwd=tmp_path).refused(2, said)
    assert not (tmp_path / "runs").exists()


def test_a_missing_recipe_and_a_missing_run(hocket: Hocket, recipe: Path, tmp_path: Path) -> None:
    hocket("train", tmp_path / "none.yaml").refused(2, "none.yaml")
    hocket("train", recipe, "--run", tmp_path / "none", "--resume").refused(1, "none", "no run")
    hocket("info", tmp_path / "none").refused(1, "none", "no run here")


def test_info_of_a_run_that_has_ended(hocket: Hocket, trained: Trained) -> None:
    done = hocket("info", trained.folder, "--json")
    assert done.status == 0
    answer = done.answer()
    assert answer["state"] == "finished"
    assert (answer["steps_done"], answer["workers"], answer["attempts"]) == (STEPS, 2, 1)
    assert len(answer["rank_seconds"]) == 2
    assert "slowest rank" in hocket("info", trained.folder).out
    page = (trained.folder / "report.html").read_text()
    assert page.count("<svg") >= 4


def start(*words: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hocket", *map(str, words)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(events: Path, number: int, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if events.exists() and f'"step": {number},' in events.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(f"no step {number} within {seconds} s")


def test_info_while_it_runs_and_a_signal_that_ends_it_well(
    hocket: Hocket, recipe: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    job = start("train", recipe, "--workers", "2", "--run", run, "--set", "steps=100000", "--json")
    try:
        wait_for_step(run / "events.jsonl", 5)
        going = hocket("info", run, "--json").answer()
        second = hocket("train", recipe, "--run", run, "--resume")
        job.send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=120)
    finally:
        job.kill()
    assert going["state"] == "running"
    assert going["steps_done"] > 5
    assert going["steps_per_second"] > 0
    assert going["seconds_left"] > 0
    second.refused(1, "in use")
    assert job.returncode == 0, err
    stopped_at = json.loads(out)["steps"]
    info = hocket("info", run, "--json").answer()
    assert (info["state"], info["steps_done"]) == ("stopped", stopped_at)
    assert info["last_checkpoint"] == stopped_at


def test_torchrun_starts_the_same_command(recipe: Path, trained: Trained, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["-m", "hocket", "train", str(recipe), "--run-dir", str(run), "--json"]
    done = subprocess.run(
        [*command, *words], env=environment(), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    here = trained.done.answer()
    assert (answer["steps"], answer["workers"]) == (STEPS, 2)
    assert answer["weights_sha256"] == here["weights_sha256"]
