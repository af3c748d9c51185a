"""FLAC by dr_flac: what libsndfile gives, bit for bit, or nothing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.core.errors import AudioError
from hocket.corpus import audio, flac

pytest.importorskip("miniaudio")
PATH = Path("x.flac")


def _encoded(rate: int = 16_000, channels: int = 1, subtype: str = "PCM_16", num: int = 20_000) -> bytes:
    generator = np.random.default_rng(7)
    walk_NC = np.cumsum(generator.normal(size=(num, channels)), axis=0)
    x_NC = 0.99 * walk_NC / np.abs(walk_NC).max()
    x_NC[: num // 10] = 0.0  # silence, and the loudest there is
    x_NC[-5:] = 1.0
    file = io.BytesIO()
    soundfile.write(file, x_NC, rate, format="FLAC", subtype=subtype)
    return file.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_16", "PCM_24"])
@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 3)])
def test_the_samples_are_those_of_libsndfile(rate: int, channels: int, subtype: str) -> None:
    data = _encoded(rate, channels, subtype)
    expected_NC, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    for each in (data, memoryview(data)):
        found = flac.decode(each)
        assert found is not None and found[1] == rate
        assert found[0].dtype == np.float32 and np.array_equal(found[0], expected_NC)


def test_parts_and_channels_are_the_same_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _encoded(44_100, 2)
    asked = [(None, 0, None), (0, 100, 15_000), (1, 19_000, 1_000), (None, 0, 3)]
    with_it = [audio.read(PATH, channel, start, num, data) for channel, start, num in asked]
    monkeypatch.setattr(flac, "_library", lambda: None)
    without = [audio.read(PATH, channel, start, num, data) for channel, start, num in asked]
    assert all(np.array_equal(one, other) for one, other in zip(with_it, without, strict=True))


def test_files_and_members_of_files_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, tar = _encoded(44_100, 2), tmp_path / "x.tar"
    (tmp_path / "x.flac").write_bytes(data)
    tar.write_bytes(b"before" + data + b"after")
    places: list[tuple[Path, audio.Member | None]] = [(tmp_path / "x.flac", None), (tar, (6, len(data)))]
    expected = audio.read(PATH, 1, 100, 15_000, data)
    for path, member in places:
        assert flac.read(path, member) is not None
        assert np.array_equal(audio.read(path, 1, 100, 15_000, member), expected)
        assert flac.read(path, member, num=1_000) is None
    (tmp_path / "torn.flac").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.flac").write_text("no audio")
    for left in ("torn.flac", "text.flac", "nowhere.flac", "."):
        assert flac.read(tmp_path / left, None) is None
    monkeypatch.setattr(flac, "_library", lambda: None)
    for path, member in places:
        assert flac.read(path, member) is None
        assert np.array_equal(audio.read(path, 1, 100, 15_000, member), expected)


def test_what_is_damaged_is_left_to_libsndfile() -> None:
    data = _encoded()
    torn, flipped = data[: len(data) // 2], bytearray(data)
    flipped[len(data) // 2] ^= 0x40
    longer = bytearray(data)
    longer[25] ^= 1  # it says that it has another number of samples
    for damaged in (torn, bytes(flipped), bytes(longer), data[:60], b"", b"RIFF" + data):
        assert flac.decode(damaged) is None
    with pytest.raises(AudioError, match=r"x.flac: truncated"):
        audio.read(PATH, None, 0, None, torn)
    assert flac.decode(data, num=1_000) is None  # a small part of a long recording
    with pytest.raises(AudioError, match="channel 1 was asked for"):
        audio.read(PATH, 1, 0, None, data)
