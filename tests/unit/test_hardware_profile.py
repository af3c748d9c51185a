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
    Cache,
    Collective,
    Device,
    Figure,
    Host,
    MachineProfile,
    Memory,
    Noise,
    NumaNode,
    ProductRate,
    ReadRate,
    StorageRates,
    Timing,
)


def exactly(value: float) -> Figure:
    return Figure(value, value, value, 1)


def machine() -> MachineProfile:
    rate = Figure.of([90e9, 80e9, 95e9])
    table = tuple(
        Timing(size, exactly(seconds)) for size, seconds in ((1024, 1e-4), (2**20, 1e-3), (2**24, 8e-3))
    )
    products = (
        ProductRate("square", (1024, 1024, 1024), "fp32", rate, rate),
        ProductRate("tiny", (1024, 128, 256), "fp32", exactly(40e9), exactly(30e9)),
    )
    return MachineProfile(
        version=VERSION,
        date="2026-01-02T03:04:05+00:00",
        hocket="1.0",
        took_seconds=60.0,
        rounds=3,
        workers=2,
        host=Host(
            "EPYC",
            2,
            1,
            (NumaNode((0, 1), 2**34),),
            (Cache(3, "unified", 2**25, 1),),
            ("avx2",),
            "L",
            "3",
            "2",
            "tbb",
        ),
        memory=Memory(2**34, exactly(12e9), exactly(20e9), 2),
        devices=(Device("cpu", "EPYC", 2, 2**34, None, None, products, (), None, None, None),),
        collectives=(Collective("all_reduce", 2, "gloo", table, 1e-4, 5e-10, 0.3),),
        storage=StorageRates(
            "ext4", 2**28, "O_DIRECT", (ReadRate("random", "cold", 1, 65536, exactly(1e8)),)
        ),
        noise=Noise(exactly(1e-3), False, 0.1),
        notes=("no accelerator",),
    )


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
    with pytest.raises(UsageError, match="no machine's profile"):
        profile.read(tmp_path / "machine.json")
    with pytest.raises(UsageError, match="No such file"):
        profile.read(tmp_path / "other.json")
