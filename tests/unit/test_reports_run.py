"""What a run folder tells: progress, rates, survivors, and a page that stands on its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from hocket.core.errors import RunError
from hocket.reports import picture, run, tables

START = 1_000_000.0


def write_run(folder: Path, events: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def start(step: int = 0, attempt: int = 1, time: float = START, steps: int = 100) -> dict[str, Any]:
    fields = {"workers": 2, "layout": "dp_replicate=2", "precision": "fp32", "steps": steps}
    return {"event": "start", "attempt": attempt, "time": time, "step": step, **fields}


def step(number: int, attempt: int = 1, **changes: Any) -> dict[str, Any]:
    event = {
        "event": "step",
        "attempt": attempt,
        "time": START + 0.5 * (number + 1),
        "step": number,
        "epoch": number // 10,
        "loss": 4.0 - 0.01 * number,
        "grad_norm": 1.0,
        "lr": 1e-3,
        "num_frames": 1000,
        "num_utterances": 4,
        "skipped": False,
        "seconds": {"data": 0.01, "compute": 0.4, "communication": 0.03, "wait": 0.06},
        "busy": [0.41, 0.47],
        "padding": 0.02,
        "imbalance": 1.05,
    }
    return event | changes


def test_a_run_that_is_going(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [start(), *(step(n) for n in range(40))])
    info = run.describe(folder, now=lambda: START + 21.0)
    assert info.state == "running"
    assert (info.steps_done, info.steps_total, info.epoch) == (40, 100, 3)
    assert info.steps_per_second == pytest.approx(2.0)
    assert info.audio_per_second == pytest.approx(20.0)  # two steps of ten seconds of speech
    assert info.seconds_left == pytest.approx(30.0)
    assert info.slowest_rank == 1
    assert info.rank_seconds == pytest.approx((0.41, 0.47))
    assert info.loss == pytest.approx(4.0 - 0.01 * 29.5)
    assert info.seconds == pytest.approx({"compute": 16.0, "communication": 1.2, "wait": 2.4, "data": 0.4})
    assert list(info.seconds) == ["compute", "communication", "wait", "data"]


def test_the_share_of_the_matrix_rate_is_over_all_steps_each_at_the_rate_of_its_attempt(
    tmp_path: Path,
) -> None:
    # Half a second each, 0.4 of it computing: 2e9 operations are 40 % of 1e10 a second, 20 % of 2e10.
    first = [start() | {"matrix_rate": 1e10}, *(step(n, flops=2e9) for n in range(2))]
    second = [start(2, attempt=2) | {"matrix_rate": 2e10}, *(step(n, 2, flops=2e9) for n in range(2, 4))]
    info = run.describe(write_run(tmp_path / "a", [*first, *second]), now=lambda: START + 21.0)
    assert info.matrix_rate == 2e10
    assert info.matrix_share == pytest.approx(4 * 2e9 / (0.5 * 2 * (1e10 + 2e10)))
    assert info.matrix_share_computing == pytest.approx(4 * 2e9 / (0.4 * 2 * (1e10 + 2e10)))
    assert "26.7 % (33.3 % while computing); plain matrix products on 2 workers: 20 GFLOP/s" in drawn(info)
    older = run.describe(write_run(tmp_path / "b", [start(), step(0)]), now=lambda: START)
    assert older.matrix_share is None
    assert "matrix rate" not in drawn(older)


def test_a_silent_run_and_an_ended_one(tmp_path: Path) -> None:
    events = [start(steps=10), *(step(n) for n in range(10))]
    silent = write_run(tmp_path / "a", events)
    assert run.describe(silent, now=lambda: START + 1000.0).state == "silent"
    end = {"event": "end", "attempt": 1, "time": START + 6.0}
    finished = write_run(tmp_path / "b", [*events, {**end, "finished": True}])
    assert run.describe(finished, now=lambda: START + 1000.0).state == "finished"
    stopped = write_run(tmp_path / "c", [*events[:5], {**end, "finished": False}])
    info = run.describe(stopped, now=lambda: START + 1000.0)
    assert (info.state, info.steps_done, info.seconds_left) == ("stopped", 4, None)


def test_steps_before_a_crash_count_once(tmp_path: Path) -> None:
    restart = {"event": "restart", "attempt": 1, "time": START + 5, "reason": "rank 1 was lost", "rank": 1}
    first = [start(), *(step(n, loss=99.0) for n in range(8)), restart]
    second = [start(4, attempt=2), *(step(n, attempt=2, loss=1.0) for n in range(4, 10))]
    folder = write_run(tmp_path / "run", [*first, *second])
    info = run.describe(folder, now=lambda: START + 6.0)
    assert info.steps_done == 10
    assert info.attempts == 2
    assert info.restarts == (run.Restart(1, "rank 1 was lost", 1),)
    assert info.loss == pytest.approx((4 * 99.0 + 6 * 1.0) / 10)


def test_skipped_steps_do_not_spoil_the_loss(tmp_path: Path) -> None:
    steps = [step(n, loss=2.0) for n in range(5)] + [step(5, loss=float("nan"), skipped=True)]
    folder = write_run(tmp_path / "run", [start(), *steps])
    info = run.describe(folder, now=lambda: START + 6.0)
    assert (info.loss, info.steps_skipped) == (2.0, 1)


def test_development_wer_best_and_last(tmp_path: Path) -> None:
    found = [
        {"event": "validation", "attempt": 1, "time": START, "step": n, "loss": 1.0, "wer": wer, "cer": 0.1}
        for n, wer in ((10, 0.5), (20, 0.2), (30, 0.25))
    ]
    folder = write_run(tmp_path / "run", [start(), step(0), *found])
    info = run.describe(folder, now=lambda: START)
    assert (info.dev_wer, info.best_dev_wer) == (0.25, 0.2)


def test_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        run.describe(tmp_path)


def test_a_run_that_has_only_started_can_be_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [start()])
    info = run.describe(folder, now=lambda: START + 1.0)
    assert (info.state, info.steps_done, info.loss) == ("running", 0, None)
    text = drawn(info)
    assert "0 of 100" in text
    assert picture.write(folder).exists()


def test_table_names_what_matters(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [start(), *(step(n) for n in range(40))])
    text = drawn(run.describe(folder, now=lambda: START + 21.0))
    for wanted in ("40 of 100", "30 s", "rank 1, 1.068 times the mean", "compute 80.0 %", "padding", "2.0 %"):
        assert wanted in text


def test_page_is_well_formed_and_self_contained(tmp_path: Path) -> None:
    validation = {
        "event": "validation",
        "attempt": 1,
        "time": START,
        "step": 20,
        "loss": 1.0,
        "wer": 0.0,
        "cer": 0.0,
    }
    restart = {"event": "restart", "attempt": 1, "time": START, "reason": "<rank & 1>", "rank": 1}
    folder = write_run(tmp_path / "run", [start(), *(step(n) for n in range(40)), validation, restart])
    page = picture.write(folder, now=lambda: START + 21.0).read_text()
    assert "http" not in page.replace("http-equiv", "")  # nothing is fetched
    assert "&lt;rank &amp; 1&gt;" in page
    assert "prefers-color-scheme: dark" in page
    charts = page.split("<svg")[1:]
    titles = [
        ElementTree.fromstring("<svg" + chart.split("</svg>")[0] + "</svg>").get("aria-label")
        for chart in charts
    ]
    assert titles == [
        "Loss",
        "Errors on the development part",
        "Where a step's time goes",
        "Work of each rank for a step, lately",
        "Padding",
        "Imbalance",
    ]
    assert "development WER" in page and "0.0 %" in page  # a WER of zero is shown, too


def drawn(info: run.RunInfo) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(tables.run(info))
    return console.export_text()


def test_several_corpora_and_an_early_stop(tmp_path: Path) -> None:
    corpora = {name: {"weight": 1.0, "hours": 1.0, "share": 0.5} for name in ("read", "calls")}
    stop = {"step": 4, "metric": "loss", "best": 1.5, "best_step": 2, "num_in_vain": 2, "patience": 2}
    scores = {"wer": 0.5, "cer": 0.2, "loss": 1.6}
    lines = [
        start() | {"corpora": corpora},
        *(step(n, frames_by_corpus={"read": 600, "calls": 400}) for n in range(4)),
        {"event": "validation", "attempt": 1, "time": START + 3, "step": 4, **scores}
        | {"by_corpus": {"calls": {"wer": 0.75}}},
        {"event": "early_stop", "attempt": 1, "time": START + 3, **stop},
        {"event": "end", "attempt": 1, "time": START + 4, "finished": True},
    ]
    folder = write_run(tmp_path / "run", lines)
    (folder / "summary.json").write_text(json.dumps({"stopped_early": True, "model_step": 2}))
    info = run.describe(folder)
    assert info.corpora["read"]["audio_seconds"] == pytest.approx(24)
    assert "dev_wer" not in info.corpora["read"]
    assert info.corpora["calls"]["dev_wer"] == 0.75
    assert (info.state, info.model_step) == ("finished", 2)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(tables.run(info))
    shown = captured.get()
    assert "2 validations brought no better loss than 1.5, reached after step 2" in shown
    assert "of the weights after step 2" in shown
    assert "16 s learnt from, 50.0 % of the audio at weight 1, development WER 75.0 %" in shown
