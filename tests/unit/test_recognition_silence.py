"""Cutting long audio: every sample once, no piece too long, and no word in two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.corpus import audio
from hocket.recognition import silence
from hocket.recognition.items import Item
from hocket.recognition.plan import make_plan
from hocket.recognition.survey import survey

RATE = 8000


def talk(seed: int, seconds: float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Bursts of noise as words, with pauses between them, over a quiet hiss; and where the pauses are."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 0.001, round(seconds * RATE))
    pauses, time = [], 0.3
    while time < seconds:
        word, pause = random.uniform(0.4, 2.0), random.uniform(0.5, 1.0)
        start, end = round(time * RATE), round(min(time + word, seconds) * RATE)
        samples[start:end] += random.normal(0, 0.1, end - start)
        pauses.append((time + word, time + word + pause))
        time += word + pause
    return samples.astype(np.float32), pauses


@pytest.mark.parametrize("seed", range(5))
def test_cuts_are_in_pauses_and_pieces_within_the_range(tmp_path: Path, seed: int) -> None:
    samples, pauses = talk(seed, 70.0)
    path = tmp_path / "long.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    plan = make_plan(survey([Item("long", path), Item("short", path, start=0, num=RATE)], 10.0), 60.0)
    assert plan.piece_item.tolist() == [0] * (len(plan.piece_item) - 1) + [1]
    pieces = plan.pieces(0)
    assert 7 <= len(pieces) <= 12
    joined, cuts = [], []
    for piece in pieces:
        start, num = int(plan.piece_start[piece]), int(plan.piece_num[piece])
        assert start == sum(len(part) for part in joined)
        assert num <= 10.0 * RATE + 1
        joined.append(soundfile.read(path, num, start, dtype="float32")[0])
        cuts.append((start + num) / RATE)
        assert len(audio.read(path, None, start, num)) == plan.num_samples[piece]
    assert np.array_equal(np.concatenate(joined), samples)
    for cut in cuts[:-1]:
        assert any(start - 0.06 <= cut <= end + 0.06 for start, end in pauses), f"{cut} is in a word"


def test_powers_do_not_depend_on_blocks() -> None:
    samples = np.random.default_rng(1).normal(0, 1, 10_007).astype(np.float32)
    whole = silence.powers([samples], 100)
    assert len(whole) == 101
    parts = silence.powers(np.array_split(samples, 13), 100)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
    assert whole[3] == pytest.approx(np.square(samples[300:400]).mean(), rel=1e-5)


@pytest.mark.parametrize("power", [np.zeros(5000), np.ones(5000), np.arange(5000.0)])
def test_audio_without_any_pause_is_cut_all_the_same(power: np.ndarray) -> None:
    found = silence.cuts(power.astype(np.float32), 400)
    assert max(np.diff([0, *found, 5000])) <= 400
    assert min(np.diff([0, *found])) >= 40
    assert len(found) <= 16
    assert silence.cuts(power.astype(np.float32), 5000) == []
