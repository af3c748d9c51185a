"""The noise scale in a run's report: words, picture, and batches that would follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from hocket.reports import noise, picture, run, tables

START: dict[str, Any] = {
    "event": "start",
    "attempt": 1,
    "time": 1.0,
    "step": 0,
    "steps": 400,
    "steps_per_epoch": 100,
    "batch_seconds": 30.0,
    "workers": 2,
}


def told(step: int, seconds: float | None, num: int = 5, attempt: int = 1) -> dict[str, Any]:
    event = {"event": "noise_scale", "attempt": attempt, "time": 2.0, "step": step, "num_probes": num}
    if seconds is None:
        return event | {"noise_seconds": None}
    return event | {
        "noise_seconds": seconds,
        "noise_utterances": seconds / 3,
        "batch_seconds": 30.0,
        "data_efficiency": 1 / (1 + 30.0 / seconds),
        "step_efficiency": 1 / (1 + seconds / 30.0),
        "max_workers": int(seconds / 15),
    }


def written(folder: Path, *more: dict[str, Any]) -> Path:
    folder.mkdir()
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (START, *more)))
    return folder


def said(folder: Path) -> str:
    console = Console(width=200, record=True, file=(folder / "out").open("w"))
    console.print(tables.run(run.describe(folder)))
    return console.export_text()


def test_a_run_tells_its_noise_scale_and_what_follows(tmp_path: Path) -> None:
    found = (told(49, 40.0), told(99, 130.0), told(149, 140.0), told(199, 300.0))
    folder = written(tmp_path / "run", *found)
    text = said(folder)
    assert "300 s of audio (100 utterances), from 5 probe steps" in text
    assert "90.9 %" in text and "beyond 20 workers" in text
    # Four times 30 s only when two probe steps in a row bear it.
    assert "batch.growth: [{epoch: 1.5, times: 4}]" in text
    page = picture.write(folder).read_text()
    assert "Gradient noise scale" in page and "beyond 20 workers" in page


def test_why_there_is_none(tmp_path: Path) -> None:
    assert "noise scale" not in said(written(tmp_path / "early"))
    folder = tmp_path / "other"
    folder.mkdir()
    start = START | {"no_noise_scale": "not measured: batch.probe_every is 0"}
    (folder / "events.jsonl").write_text(json.dumps(start) + "\n")
    assert "not measured: batch.probe_every is 0" in said(folder)
    lost = said(written(tmp_path / "lost", told(99, None)))
    assert "does not stand out" in lost


def test_estimates_that_a_restart_went_back_before_do_not_count(tmp_path: Path) -> None:
    again = START | {"attempt": 2, "step": 100}
    folder = written(tmp_path / "run", told(99, 50.0), told(149, 900.0), again, told(149, 60.0, attempt=2))
    info = run.describe(folder)
    assert info.noise_scale is not None and info.noise_scale["noise_seconds"] == 60.0
    kept = run.surviving(run.read(folder).of_kind("noise_scale"), run.read(folder).of_kind("start"))
    assert [event["noise_seconds"] for event in kept] == [50.0, 60.0]


def test_growth_is_not_suggested_after_the_end_or_from_too_little() -> None:
    early = [told(9, 500.0, num=1), told(19, 500.0, num=2)]
    assert noise.suggested_growth(early, START, 4.0) == []
    late = [told(391, 500.0), told(398, 500.0), told(430, 900.0), told(440, 900.0)]
    assert noise.suggested_growth(late, START, 3.0) == []
