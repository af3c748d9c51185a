"""The plan of a job: a function of the list and the settings, every readable item in it once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.core.errors import UsageError
from hocket.recognition.items import Item
from hocket.recognition.plan import Plan, make_plan
from hocket.recognition.survey import survey


def plan_of(items: list[Item], batch_seconds: float, max_utterances: int = 256) -> Plan:
    return make_plan(survey(items, 3600.0), batch_seconds, max_utterances)


def items_of(seconds: list[float]) -> list[Item]:
    return [
        Item(id=str(n), audio=Path(f"{n}.wav"), num_samples_16k=round(s * 16_000))
        for n, s in enumerate(seconds)
    ]


def test_micro_batches_hold_every_item_once_within_the_budget() -> None:
    seconds = np.random.default_rng(2).uniform(0.2, 9.0, 100).round(3).tolist()
    plan = plan_of(items_of(seconds), 20.0, 8)
    assert sorted(np.concatenate(plan.micro_batches).tolist()) == list(range(100))
    for number, positions in enumerate(plan.micro_batches):
        assert len(positions) <= 8
        assert plan.padded_frames(number) <= 2000 or len(positions) == 1
        lease = plan.lease(number)
        assert [item.id for item in lease.items] == [str(position) for position in positions]
        assert lease.num_frames == max(lease.num_samples) // 160
    assert 0.0 < plan.padding < 0.2


def test_long_audio_is_a_micro_batch_of_its_own() -> None:
    plan = plan_of(items_of([1.0, 30.0, 1.0]), 10.0)
    assert [part.tolist() for part in plan.micro_batches] == [[1], [0, 2]]


def test_what_cannot_be_read_is_listed_and_no_part_of_a_micro_batch(tmp_path: Path) -> None:
    good, short, empty, text, cut = (
        tmp_path / f"{name}.wav" for name in ("good", "short", "empty", "text", "cut")
    )
    soundfile.write(good, np.zeros(8000), 8000)
    soundfile.write(short, np.zeros(100), 16_000)
    soundfile.write(empty, np.zeros(0), 16_000)
    text.write_text("this is no audio")
    soundfile.write(cut, np.zeros(16_000), 16_000)
    cut.write_bytes(cut.read_bytes()[:5000])
    files = [tmp_path / "gone.wav", good, short, empty, text, cut]
    items = [Item(id=path.stem, audio=path) for path in files]
    items.append(Item(id="beyond", audio=good, start=7000, num=2000))
    items.append(Item(id="channel", audio=good, channel=1))
    plan = plan_of(items, 60.0)
    assert [part.tolist() for part in plan.micro_batches] == [[1]]
    assert plan.num_samples.tolist() == [0, 16_000, 0, 0, 0, 0, 0, 0]
    words = {
        0: "no such file",
        2: "one frame",
        3: "no samples",
        4: "not audio",
        5: "truncated",
        6: "8000",
        7: "channel 1",
    }
    assert plan.unreadable.keys() == words.keys()
    for position, word in words.items():
        assert word in plan.unreadable[position] and str(items[position].audio) in plan.unreadable[position]


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 8), (float("nan"), 8), (1.0, 0), (1.0, 257)])
def test_settings_out_of_range(seconds: float, most: int) -> None:
    with pytest.raises(UsageError):
        plan_of(items_of([1.0]), seconds, most)
