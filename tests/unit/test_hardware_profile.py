"""A machine's profile: its figures, its table of messages, and the file that holds it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hocket.core.errors import UsageError
from hocket.hardware import profile
from hocket.hardware.profile import (
    VERSION,
    Figure,
)
from profiles import machine


def test_a_figure_is_a_median_with_the_range_of_its_samples() -> None:
    figure = Figure.of([4.0, 1.0, 2.0])
    assert (figure.median, figure.low, figure.high, figure.count) == (2.0, 1.0, 4.0, 3)
    assert figure.spread == 0.75


def test_measurements_agree_when_their_ranges_meet() -> None:
    assert Figure.of([1.0, 2.0]).agrees(Figure.of([1.9, 3.0]))
    assert Figure.of([1.9, 3.0]).agrees(Figure.of([1.0, 2.0]))
    assert not Figure.of([1.0, 2.0]).agrees(Figure.of([2.1, 3.0]))


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    machine().write(tmp_path / "machine.json")
    assert profile.read(tmp_path / "machine.json") == machine()


def test_a_message_takes_what_the_table_says_and_between_sizes_what_lies_between() -> None:
    table = machine().collectives[0]
    assert table.seconds(1) == table.seconds(1024) == 1e-4
    assert table.seconds(2**20) == pytest.approx(1e-3)
    assert 1e-3 < table.seconds(2**22) < 8e-3
    assert table.seconds(2**30) == pytest.approx(64 * 8e-3)  # at the rate of the largest
    assert machine().collective("all_reduce", 8) == table
    assert machine().collective("p2p", 2) is None


def test_a_device_answers_for_the_shape_nearest_in_size() -> None:
    device = machine().device
    assert (small := device.rate("fp32", (900, 144, 300))) is not None
    assert small.name == "tiny"
    assert (fastest := device.rate("fp32")) is not None
    assert fastest.name == "square"
    assert device.rate("fp16") is None


def change(*path: str | int, to: Any) -> Callable[[Any], None]:
    def apply(tree: Any) -> None:
        for part in path[:-1]:
            tree = tree[part]
        tree[path[-1]] = to

    return apply


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (change("version", to=VERSION + 1), f"of version {VERSION + 1}; this hocket reads {VERSION}"),
        (lambda tree: tree.pop("version"), "'version' is missing"),
        (lambda tree: tree["memory"].pop("bandwidth_one"), "field memory.bandwidth_one: Field required"),
        (
            change("devices", 0, "memory_bytes", to=-5),
            r"field devices.0.memory_bytes: .*greater than 0 \(got -5\)",
        ),
        (change("devices", 0, "kind", to="abacus"), "field devices.0.kind: "),
        (change("host", "colour", to="red"), "field host.colour: "),
        (change("collectives", 0, "timings", 1, "seconds", "median", to="fast"), "timings.1.seconds.median"),
    ],
)
def test_a_file_that_is_not_such_a_profile_is_refused_by_its_field(
    spoil: Callable[[Any], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "machine.json"
    machine().write(path)
    tree = json.loads(path.read_text())
    spoil(tree)
    path.write_text(json.dumps(tree))
    with pytest.raises(UsageError, match=said) as refused:
        profile.read(path)
    assert str(path) in str(refused.value)
    assert "hocket probe --out" in refused.value.hint


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '"machine"'])
def test_a_file_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "machine.json").write_text(text)
    with pytest.raises(UsageError, match="not a machine's profile"):
        profile.read(tmp_path / "machine.json")
    with pytest.raises(UsageError, match="No such file"):
        profile.read(tmp_path / "other.json")
