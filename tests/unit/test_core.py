"""Keys, events and files: what everything else takes for granted."""

import json
from pathlib import Path

import numpy as np
import pytest

from hocket.core import events, files, seeds
from hocket.core.cost import CostModel
from hocket.core.errors import UsageError
from hocket.core.layout import Layout


def test_keys_tell_apart_what_is_apart() -> None:
    keys = {seeds.key("a", 1), seeds.key("a", 2), seeds.key("a1"), seeds.key("a", "1"), seeds.key("b", 1)}
    assert len(keys) == 5
    assert seeds.key("utterance", "an4-1") == 7869929890977316983


def test_mixing_is_a_bijection_and_differs_by_salt() -> None:
    values = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(seeds.mix(1, values))) == len(values)
    assert not np.array_equal(np.sort(seeds.mix(1, values)), np.sort(seeds.mix(2, values)))


def test_surviving_steps_are_those_of_the_last_attempt_to_take_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = events.EventLog(path, 1)
    first.write("start", step=0)
    for step in range(5):
        first.write("step", step=step, loss=1.0)
    second = events.EventLog(path, 2)
    second.write("start", step=3)
    second.write("step", step=3, loss=2.0)
    assert [(e["step"], e["loss"]) for e in events.surviving_steps(path)] == [
        (0, 1.0),
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
    ]


def test_a_line_torn_by_a_crash_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events.EventLog(path, 1).write("step", step=1)
    with path.open("ab") as file:
        file.write(b'{"event": "st')
    assert [e["step"] for e in events.read(path)] == [1]
    events.EventLog(path, 2).write("step", step=2)
    assert [e["step"] for e in events.read(path)] == [1, 2]


def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "value.json"
    files.write_json(path, {"a": 1})

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_the_cost_of_a_micro_batch() -> None:
    cost = CostModel(a0=1.0, a=2.0, b=3.0, c=4.0, d=5.0)
    assert float(cost.micro_batch(2, 10, 3)) == 1.0 + 2 * (2.0 + 30.0 + 400.0 + 150.0)


def test_layouts() -> None:
    assert Layout(pp=2, tp=3).world_size == 6
    assert str(Layout(pp=2, tp=3)) == "pp=2,tp=3"
    with pytest.raises(UsageError, match="dp_shard"):
        Layout(dp_shard=0)
