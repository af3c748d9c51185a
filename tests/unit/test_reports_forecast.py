"""A run's report sets what was said of a step beside what it took."""

from __future__ import annotations

import json
from pathlib import Path

from hocket.core.events import EventLog
from hocket.reports import picture
from hocket.reports import run as runs
from hocket.reports.tables import run as table


def _run(folder: Path) -> Path:
    log = EventLog(folder / "events.jsonl", 1)
    log.write("start", workers=2, step=0, steps=2)
    for step in range(2):
        seconds = {"compute": 0.5, "communication": 0.1, "wait": 0.0, "data": 0.0, "optimiser": 0.0}
        log.write("step", step=step, epoch=0, loss=1.0, num_frames=100, seconds=seconds, busy=[0.5, 0.5])
    log.close()
    return folder


def test_a_forecast_is_told_and_drawn_beside_the_measurement(tmp_path: Path) -> None:
    run = _run(tmp_path)
    assert runs.describe(run).forecast is None
    assert "as the planner says it" not in picture.write(run).read_text()
    said = {"said": 0.66, "measured": 0.6, "seconds": {"compute": 0.5, "recompute": 0.06, "bubble": 0.1}}
    (run / "forecast.json").write_text(json.dumps(said))
    found = runs.describe(run)
    assert found.forecast == runs.Forecast(0.66, 0.6, said["seconds"])
    assert "as the planner says it" in picture.write(run).read_text()
    cells = [str(cell) for column in table(found).columns for cell in column.cells]  # type: ignore[attr-defined]
    assert any("660 ms said, 600 ms measured: off by +10 %" in cell for cell in cells)
