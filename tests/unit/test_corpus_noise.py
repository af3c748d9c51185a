"""Noise and rooms: the same for an utterance whoever loads it, at the level asked for, as long as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from corpora import noise, spec, spoken_table, write_audio
from hocket.core.errors import AudioError, RecipeError
from hocket.corpus import audio, manifest, sounds
from hocket.corpus.augment import AugmentSettings, NoiseSettings, ReverbSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader, LoadingSettings
from hocket.corpus.noise import Noise, mean_square, mixed
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.reverb import Reverb, convolved, direct_first, simulated
from hocket.corpus.tokens import Tokens

SPEECH = noise(2.0, seed=3)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> CorpusIndex:
    folder = tmp_path_factory.mktemp("noise")
    spoken_table(folder / "source")
    prepare(str(folder / "source"), folder / "corpus", settings=PrepareSettings(dev_fraction=0))
    return CorpusIndex.open(folder / "corpus", "train")


def make(index: CorpusIndex, *sources: str, seed: int = 1, snr: float = 10.0) -> Noise:
    return Noise(NoiseSettings(probability=0.5, sources=sources, snr_db=(snr, snr)), seed, index)


@pytest.mark.parametrize("source", ["white", "pink", "babble"])
def test_noise_is_as_loud_as_asked_and_the_same_on_any_worker(source: str, index: CorpusIndex) -> None:
    one = make(index, source).add(SPEECH, 4, 77)
    assert one.dtype == np.float32
    assert len(one) == len(SPEECH)
    added = one - SPEECH
    ratio = 10 * np.log10(mean_square(SPEECH) / mean_square(added))
    assert ratio == pytest.approx(10.0, abs=0.05)
    other = make(index, source)  # another worker, that has heard other things before
    other.add(SPEECH[:5000], 1, 5)
    np.testing.assert_array_equal(other.add(SPEECH, 4, 77), one)
    for changed in (other.add(SPEECH, 5, 77), other.add(SPEECH, 4, 78)):
        assert not np.array_equal(changed, one)
    assert not np.array_equal(make(index, source, seed=2).add(SPEECH, 4, 77), one)


def test_white_is_flat_and_pink_falls_by_three_decibels_an_octave(index: CorpusIndex) -> None:
    def octaves(source: str) -> list[float]:
        x = make(index, source).add(noise(40.0), 0, 1) - noise(40.0)
        power = np.abs(np.fft.rfft(x)) ** 2
        hz = np.fft.rfftfreq(len(x), 1 / 16_000)
        bands = [power[(hz >= low) & (hz < 2 * low)].mean() for low in (250, 500, 1000, 2000)]
        return list(np.diff(10 * np.log10(bands)))

    assert octaves("white") == pytest.approx([0, 0, 0], abs=0.3)
    assert octaves("pink") == pytest.approx([-3, -3, -3], abs=0.3)


def test_the_probability_is_that_of_utterances(index: CorpusIndex) -> None:
    for probability in (0.0, 0.3, 1.0):
        drawn = Noise(NoiseSettings(probability=probability), 1, index)
        room = Reverb(ReverbSettings(probability=probability), 1)
        for kind in (drawn, room):
            share = np.mean([kind.drawn(0, key) for key in range(2000)])
            assert share == pytest.approx(probability, abs=0.03)
    both = [(drawn.drawn(0, key), room.drawn(1, key)) for key in range(10)]
    assert all(noisy and roomy for noisy, roomy in both)


def test_levels_are_spread_over_the_range(index: CorpusIndex) -> None:
    source = Noise(NoiseSettings(probability=1, sources=("white",), snr_db=(0, 20)), 1, index)
    levels = [
        10 * np.log10(mean_square(SPEECH) / mean_square(source.add(SPEECH, 0, key) - SPEECH))
        for key in range(200)
    ]
    assert min(levels) == pytest.approx(0, abs=1)
    assert max(levels) == pytest.approx(20, abs=1)
    assert np.mean(levels) == pytest.approx(10, abs=1.5)


def test_silence_stays_silence() -> None:
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(mixed(silence, np.ones(100, np.float32), 10), silence)
    np.testing.assert_array_equal(mixed(SPEECH, np.zeros_like(SPEECH), 10), SPEECH)


def test_recorded_noise_is_cut_from_long_files_and_repeated_from_short_ones(
    index: CorpusIndex, tmp_path: Path
) -> None:
    long = write_audio(tmp_path / "noises" / "deep" / "long.wav", 5.0, seed=1)
    write_audio(tmp_path / "noises" / "short.flac", 0.3, seed=2, rate=8000)
    (tmp_path / "noises" / "readme.txt").write_text("no audio")
    found = sounds.find(tmp_path / "noises")
    assert [sound.path.name for sound in found] == ["long.wav", "short.flac"]
    whole = audio.read(long)
    cut = found[0].stretch(16_000, 0.5)
    place = int(0.5 * (len(whole) - 16_000 + 1))
    np.testing.assert_array_equal(cut, whole[place : place + 16_000])
    short = found[1].whole()
    repeated = found[1].stretch(20_000, 0.25)
    assert len(repeated) == 20_000
    np.testing.assert_array_equal(repeated[: len(short) - 1200], short[1200:])
    assert len(make(index, str(tmp_path / "noises")).add(SPEECH, 0, 1)) == len(SPEECH)


def test_a_manifest_names_parts_of_files(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "audio.wav", 4.0)
    cut = manifest.Cut("n1", path, 16_000, 1, 64_000, 0, 16_000, 8_000, None, None)
    manifest.write(tmp_path / "cuts.jsonl.gz", [cut])
    (sound,) = sounds.find(tmp_path / "cuts.jsonl.gz")
    np.testing.assert_array_equal(sound.whole(), audio.read(path)[16_000:24_000])
    np.testing.assert_array_equal(sound.stretch(8_000, 0.9), audio.read(path)[16_000:24_000])


def test_a_noise_that_cannot_be_read_costs_the_utterance_that_drew_it(
    index: CorpusIndex, tmp_path: Path
) -> None:
    write_audio(tmp_path / "noises" / "torn.wav", 5.0).write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"torn\.wav"):
        make(index, str(tmp_path / "noises")).add(SPEECH, 0, 1)
    settings = AugmentSettings.model_validate(
        {"noise": {"probability": 1.0, "sources": [str(tmp_path / "noises")]}}
    )
    loader = Loader(index, Tokens.load(index.folder), FeatureSettings(), settings, 1)
    batch = loader.load(spec(index, [0, 1]), 0, 0)
    assert [id for id, _ in batch.dropped] == [index.id(0), index.id(1)]
    assert "torn.wav" in batch.dropped[0][1]


def test_a_simulated_room_decays_as_asked() -> None:
    response = simulated(5, rt60=0.4, drr_db=6.0, gap=40)
    assert response[0] == 1.0
    assert not response[1:40].any()
    assert len(response) == 0.4 * 16_000
    assert 10 * np.log10(1.0 / float(np.square(response[1:]).sum())) == pytest.approx(6.0, abs=0.01)
    energy = np.square(response[40:].astype(np.float64))
    early, late = energy[:800].mean(), energy[3200:4000].mean()
    assert 10 * np.log10(early / late) == pytest.approx(60 * 3200 / 6400, abs=1.5)
    np.testing.assert_array_equal(simulated(5, 0.4, 6.0, 40), response)
    assert not np.array_equal(simulated(6, 0.4, 6.0, 40), response)


def test_the_direct_path_keeps_its_place_and_the_tail_is_cut() -> None:
    recorded = np.zeros(3000, np.float32)
    recorded[[700, 900]] = [-0.5, 0.25]
    out = convolved(SPEECH, direct_first(recorded))
    expected = SPEECH.copy()
    expected[200:] -= 0.5 * SPEECH[:-200]
    assert len(out) == len(SPEECH)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    np.testing.assert_allclose(convolved(SPEECH[:50], direct_first(recorded)), SPEECH[:50], atol=1e-6)


def test_rooms_follow_seed_epoch_and_utterance(tmp_path: Path) -> None:
    write_audio(tmp_path / "rooms" / "stereo.wav", 0.2, channels=2)
    for sources in (("simulated",), (str(tmp_path / "rooms"),)):
        settings = ReverbSettings(probability=1.0, sources=sources)
        one = Reverb(settings, 1).apply(SPEECH, 2, 9)
        np.testing.assert_array_equal(Reverb(settings, 1).apply(SPEECH, 2, 9), one)
        assert one.dtype == np.float32
        assert len(one) == len(SPEECH)
    made = Reverb(ReverbSettings(probability=1.0), 1)
    assert not np.array_equal(made.apply(SPEECH, 2, 9), made.apply(SPEECH, 3, 9))
    assert not np.array_equal(made.apply(SPEECH, 2, 9), made.apply(SPEECH, 2, 10))


def loader(index: CorpusIndex, cache_mb: int, augment: bool = True) -> Loader:
    settings = AugmentSettings.model_validate(
        {"freq_masks": 0, "time_masks": 0, "noise": {"probability": 0.3}, "reverb": {"probability": 0.3}}
        if augment
        else {"freq_masks": 0, "time_masks": 0}
    )
    tokens = Tokens.load(index.folder)
    return Loader(index, tokens, FeatureSettings(), settings, 1, LoadingSettings(cache_mb=cache_mb))


def test_the_cache_changes_nothing_with_noise_and_rooms(index: CorpusIndex) -> None:
    cached, uncached, plain = loader(index, 64), loader(index, 0), loader(index, 64, augment=False)
    wanted = spec(index, list(range(12)), [90, 100, 110] * 4)
    differing = set()
    for epoch in (0, 1, 2, 0):
        one, other = cached.load(wanted, epoch, 0), uncached.load(wanted, epoch, 0)
        assert torch.equal(one.features_BTF, other.features_BTF)
        clean = plain.load(wanted, epoch, 0)
        assert torch.equal(clean.feature_lens_B, one.feature_lens_B)
        differing.add(tuple(torch.ne(clean.features_BTF, one.features_BTF).flatten(1).any(1).tolist()))
    assert len(differing) == 3  # other utterances in other epochs, and never all alike
    assert cached.cache.hits == 36


def test_sources_are_found_and_what_is_not_there_is_said(tmp_path: Path) -> None:
    write_audio(tmp_path / "noises" / "a.wav")
    (tmp_path / "empty").mkdir()

    def settle(*sources: str, probability: float = 1.0) -> tuple[str, ...]:
        noise = NoiseSettings(probability=probability, sources=sources)
        return sounds.settle(AugmentSettings(noise=noise), (tmp_path / "elsewhere", tmp_path)).noise.sources

    assert settle("pink", "noises") == ("pink", str(tmp_path / "noises"))
    with pytest.raises(RecipeError, match=r"augment\.noise\.sources: pinkish.*\n.*white, pink, babble"):
        settle("pinkish")
    with pytest.raises(RecipeError, match="no audio"):
        settle("empty")
    assert settle("pinkish", probability=0.0) == ("pinkish",)


@pytest.mark.parametrize(
    "wrong", [{"noise": {"snr_db": [5, 1]}}, {"noise": {"sources": []}}, {"reverb": {"rt60": [0, 1]}}]
)
def test_what_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings.model_validate(wrong)
