"""Any audio becomes 16 kHz mono, and bad audio says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpora import noise, write_audio
from hocket.core.errors import AudioError
from hocket.corpus import audio


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3", "a.aiff", "a.au"])
def test_every_format_is_read_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    container = {"a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS")}.get(name)
    x = noise(1.5)
    if container:
        soundfile.write(path, x, 16_000, format=container[0], subtype=container[1])
    else:
        soundfile.write(path, x, 16_000)
    info = audio.probe(path)
    assert (info.sample_rate, info.channels, info.num_samples) == (16_000, 1, 24_000)
    read = audio.read(path)
    assert read.dtype == np.float32
    assert read.shape == (24_000,)
    assert np.corrcoef(read, x)[0, 1] > 0.5


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled_to_the_exact_length(tmp_path: Path, rate: int) -> None:
    times = np.arange(rate + 7) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * times), rate, subtype="FLOAT")
    x = audio.read(tmp_path / "a.wav")
    assert len(x) == audio.resampled_samples(rate + 7, rate)
    there = np.arange(len(x)) / 16_000
    middle = slice(1000, -1000)
    assert np.abs(x - 0.5 * np.sin(2 * np.pi * 440 * there))[middle].max() < 2e-3


def test_what_lies_above_the_new_band_is_taken_out(tmp_path: Path) -> None:
    times = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 12_000 * times), 48_000, subtype="FLOAT")
    assert np.abs(audio.read(tmp_path / "a.wav")[100:-100]).max() < 5e-3


def test_channels_are_averaged_or_picked(tmp_path: Path) -> None:
    x = noise(1.0, channels=3)
    soundfile.write(tmp_path / "a.wav", x, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(audio.read(tmp_path / "a.wav"), x.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(audio.read(tmp_path / "a.wav", channel=2), x[:, 2])
    with pytest.raises(AudioError, match="channel 3 was asked for, the file has 3"):
        audio.read(tmp_path / "a.wav", channel=3)


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_part_is_read_as_asked(tmp_path: Path, suffix: str) -> None:
    path = write_audio(tmp_path / f"a{suffix}", 2.0)
    whole = audio.read(path)
    np.testing.assert_array_equal(audio.read(path, start=5_000, num=3_000), whole[5_000:8_000])
    np.testing.assert_array_equal(audio.read(path, start=5_000), whole[5_000:])
    with pytest.raises(AudioError, match="samples 30000 to 33000 were asked for, the file has 32000"):
        audio.read(path, start=30_000, num=3_000)


def test_long_audio_is_read_in_pieces_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_audio(tmp_path / "a.flac", 2.0)
    whole = audio.read(path)
    monkeypatch.setattr(audio, "_BLOCK", 999)
    np.testing.assert_array_equal(audio.read(path), whole)


@pytest.mark.parametrize("percent", [80, 90, 97, 110, 125])
@pytest.mark.parametrize("num", [1, 159, 16_000, 16_001, 31_999])
def test_speed_changes_to_the_exact_length(percent: int, num: int) -> None:
    x = noise(2.0)[:num]
    assert len(audio.perturb_speed(x, percent)) == audio.perturbed_samples(num, percent)
    assert audio.perturbed_samples(num, percent) == -(-num * 100 // percent)


def test_lengths_are_computed_on_arrays_too() -> None:
    nums = np.asarray([1, 159, 16_000, 2**40], np.int64)
    assert audio.perturbed_samples(nums, 110).tolist() == [audio.perturbed_samples(int(n), 110) for n in nums]
    assert audio.resampled_samples(nums, 22_050).dtype == np.int64


def test_faster_is_higher_and_100_percent_is_untouched() -> None:
    times = np.arange(16_000) / 16_000
    x = np.sin(2 * np.pi * 1000 * times).astype(np.float32)
    assert audio.perturb_speed(x, 100) is x
    fast = audio.perturb_speed(x, 125)
    peak = np.abs(np.fft.rfft(fast)).argmax() * 16_000 / len(fast)
    assert peak == pytest.approx(1250, abs=2)


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("a.wav", None),
        ("a.flac", None),
        ("a.mp3", None),
        ("a.aiff", None),
        ("a.au", None),
        ("a.sph", ("NIST", None)),
        ("a.rf64", None),
        ("a.ogg", ("OGG", "VORBIS")),
        ("a.opus", ("OGG", "OPUS")),
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_told(
    tmp_path: Path, name: str, container: tuple[str, str | None] | None, part: float
) -> None:
    whole = tmp_path / name
    if container:
        soundfile.write(whole, noise(3.0), 16_000, format=container[0], subtype=container[1])
    else:
        soundfile.write(whole, noise(3.0), 16_000)
    assert len(audio.read(whole)) == 48_000
    torn = tmp_path / f"torn-{name}"
    torn.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * part)])
    for use in (audio.read, audio.check):
        with pytest.raises(AudioError, match=rf"torn-{name}.*truncated"):
            use(torn)


def test_a_wav_that_was_streamed_has_no_length_to_break(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert len(audio.read(path)) == 16_000


def test_missing_empty_and_no_audio_say_so(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("this is no audio, whatever its name says")
    soundfile.write(tmp_path / "zero.wav", np.zeros(0, np.float32), 16_000)
    for name, reason in [
        ("missing.wav", "no such file"),
        ("empty.wav", "the file is empty"),
        ("text.wav", "not audio"),
        ("zero.wav", "no samples"),
    ]:
        for use in (audio.probe, audio.check, audio.read):
            with pytest.raises(AudioError, match=rf"{name}: .*{reason}"):
                use(tmp_path / name)
    with pytest.raises(AudioError, match="directory"):
        audio.read(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    x = noise(1.0)
    x[7_000] = value
    soundfile.write(tmp_path / "a.wav", x, 16_000, subtype="FLOAT")
    for use in (audio.read, audio.check):
        with pytest.raises(AudioError, match="NaN or infinite"):
            use(tmp_path / "a.wav")
