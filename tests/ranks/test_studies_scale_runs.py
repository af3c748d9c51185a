"""A small study with real runs: finished cells stay, a failed one is tried again, links are crossed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hocket.comms.links import Hosts, why_not
from hocket.core import events
from hocket.core.errors import RunError
from hocket.studies.scale import Watch, running, scale
from hocket.studies.scale.settings import checked
from hocket.studies.scale.study import EXIT_INTERRUPTED, plan

pytestmark = pytest.mark.slow


class Told:
    """A watcher that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.cells: list[tuple[int, int, str]] = []
        self.watch = Watch(
            say=self.said.append,
            cells=lambda done, of, now: self.cells.append((done, of, now)),
            training=lambda _event: None,
            recognising=lambda _state: None,
        )


def test_a_study_goes_on_where_it_was_interrupted(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out, told = write_recipe(), tmp_path / "study", Told()
    grids = [
        {"strategies": ["all_reduce"], "workers": [2]},
        {"strategies": ["local_sgd:sync_every=3"], "workers": [2], "score": False},
    ]
    asked = checked({"steps": 6, "baseline": False, "grids": grids})
    before = plan(recipe, out, asked)
    assert [each.done for each in before.cells] == [False, False]
    assert before.expected_seconds > 0
    real, calls = running.train, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(running, "train", interrupted)
    with pytest.raises(RunError, match="interrupted; 1 of 2 cells are finished") as stopped:
        scale(recipe, out, asked, told.watch)
    assert stopped.value.exit_code == EXIT_INTERRUPTED
    assert len(json.loads((out / "scale.json").read_text())) == 1

    broke = scale(recipe, out, asked.model_copy(update={"budget_minutes": 1e-3}), told.watch)
    assert (calls, len(broke.study.cells), broke.study.num_planned) == (2, 1, 2)
    assert "budget" in told.said[-1]

    found = scale(recipe, out, asked, told.watch)
    assert calls == 3  # the first is not run again
    assert found.num_earlier == 1
    rows = json.loads(found.scale_json.read_text())
    assert [row["strategy"] for row in rows] == ["all_reduce", "local_sgd"]
    assert rows[0]["wer_low"] <= rows[0]["wer"] <= rows[0]["wer_high"]
    assert rows[1]["wer"] is None  # it was not to be scored
    assert rows[0]["audio_seconds"] == rows[1]["audio_seconds"] > 0  # equal audio
    assert rows[1]["bytes_per_step"] < rows[0]["bytes_per_step"]
    assert all(row["seconds"]["compute"] > 0 for row in rows)
    assert [len(details.run.seconds_by_rank) for _, details in found.study.cells] == [2, 2]
    assert "<svg" in found.page.read_text()
    assert told.cells[-1][:2] == (2, 2)

    again = scale(recipe, out, asked, told.watch)
    assert (calls, again.num_earlier) == (3, 2)
    assert json.loads(again.scale_json.read_text()) == rows
    assert plan(recipe, out, asked).expected_seconds == 0.0


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
def test_workers_on_hosts_of_their_own_speak_over_the_link(
    write_recipe: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = partial(Hosts, name=f"hkt{os.getpid()}")  # whoever else studies links on this machine
    monkeypatch.setattr(running, "Hosts", own)
    asked = checked(
        {
            "steps": 4,
            "baseline": False,
            "grids": [
                {
                    "strategies": ["all_reduce"],
                    "workers": [2],
                    "links": ["50mbit"],
                    "score": False,
                }
            ],
        }
    )
    found = scale(write_recipe(), tmp_path / "study", asked, Told().watch)
    assert not found.study.failed
    assert [row.link for row, _ in found.study.cells] == ["50mbit"]
    for run in (tmp_path / "study" / "cells").glob("*/run"):
        steps = events.surviving_steps(run / "events.jsonl")
        assert [step["step"] for step in steps] == list(range(4))
