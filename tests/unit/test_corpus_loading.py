"""A micro-batch depends on its spec, seed, epoch and step alone: not on who loads it, or when."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora import spec, spoken_table, write_audio
from hocket.core import seeds
from hocket.core.work import MicroBatch
from hocket.corpus import audio
from hocket.corpus.augment import AugmentSettings
from hocket.corpus.cache import FeatureCache
from hocket.corpus.features import FeatureSettings, LogMel
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader, LoadingSettings, recognition_features
from hocket.corpus.prefetch import Prefetch
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.tokens import Tokens

FIELDS = ("features_BTF", "feature_lens_B", "tokens_BU", "token_lens_B")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    spoken_table(tmp_path / "source")
    prepare(str(tmp_path / "source"), tmp_path / "corpus", settings=PrepareSettings(dev_fraction=0))
    return tmp_path / "corpus"


@pytest.fixture
def index(folder: Path) -> CorpusIndex:
    return CorpusIndex.open(folder, "train")


def _loader(index: CorpusIndex, augment: bool = True, seed: int = 1, cache_mb: int = 64) -> Loader:
    settings = AugmentSettings() if augment else None
    tokens = Tokens.load(index.folder)
    return Loader(index, tokens, FeatureSettings(), settings, seed, LoadingSettings(cache_mb=cache_mb))


def _same(one: MicroBatch, other: MicroBatch) -> bool:
    return one.ids == other.ids and all(torch.equal(getattr(one, f), getattr(other, f)) for f in FIELDS)


def test_features_tokens_and_lengths_are_those_of_the_rows(index: CorpusIndex) -> None:
    tokens = Tokens.load(index.folder)
    wanted = spec(index, [3, 0, 7], [100, 90, 110])
    batch = _loader(index, augment=False).load(replace(wanted, num_tokens=12, index=5), epoch=2, step=9)
    assert batch.features_BTF.shape == (3, wanted.num_frames, 80)
    assert batch.tokens_BU.shape == (3, 12)
    assert batch.dropout_key == seeds.key("dropout", 1, 9, 5)
    for position, (row, percent) in enumerate([(3, 100), (0, 90), (7, 110)]):
        utterance = index.utterance(row)
        x = audio.perturb_speed(audio.read(utterance.audio), percent)
        length = len(x) // 160
        assert batch.ids[position] == utterance.id
        assert int(batch.feature_lens_B[position]) == length
        assert torch.equal(batch.features_BTF[position, :length], LogMel()(x))
        assert not batch.features_BTF[position, length:].any()
        ids = batch.tokens_BU[position].tolist()
        used = int(batch.token_lens_B[position])
        assert tokens.decode(ids[:used]) == utterance.text
        assert set(ids[used:]) == {tokens.blank}


def test_an_utterance_is_the_same_in_any_company_and_order(index: CorpusIndex) -> None:
    loader, other = _loader(index), _loader(index, cache_mb=0)
    together = loader.load(spec(index, [0, 1, 2, 3], [110, 100, 90, 100]), 4, 0)
    other.load(spec(index, [5, 3]), 4, 1)
    alone = other.load(spec(index, [2], [90]), 4, 7)
    length = int(alone.feature_lens_B[0])
    assert torch.equal(together.features_BTF[2, :length], alone.features_BTF[0, :length])


def test_the_cache_changes_nothing_but_time(index: CorpusIndex) -> None:
    cached, uncached = _loader(index), _loader(index, cache_mb=0)
    wanted = spec(index, [0, 1, 2], [90, 100, 110])
    first = cached.load(wanted, 0, 0)
    for epoch in range(3):
        assert _same(cached.load(wanted, epoch, 0), uncached.load(wanted, epoch, 0))
    assert _same(cached.load(wanted, 0, 0), first)
    assert cached.cache.hits == 12
    assert uncached.cache.hits == 0


def test_augmentation_follows_seed_and_epoch(index: CorpusIndex) -> None:
    wanted = spec(index, [0, 1, 2])
    first = _loader(index).load(wanted, 0, 0).features_BTF
    assert torch.equal(first, _loader(index).load(wanted, 0, 5).features_BTF)
    assert not torch.equal(first, _loader(index).load(wanted, 1, 0).features_BTF)
    assert not torch.equal(first, _loader(index, seed=2).load(wanted, 0, 0).features_BTF)
    assert not torch.equal(first, _loader(index, augment=False).load(wanted, 0, 0).features_BTF)


def test_the_views_of_an_utterance_are_masked_differently(index: CorpusIndex) -> None:
    tokens, augment = Tokens.load(index.folder), AugmentSettings(freq_masks=3, time_masks=5)
    one, two = (
        Loader(index, tokens, FeatureSettings(), augment, 1, num_views=number).load(spec(index, [3, 0]), 2, 9)
        for number in (1, 2)
    )
    assert two.num_views == 2 and two.ids == one.ids
    assert torch.equal(two.features_BTF[:2], one.features_BTF)
    assert not torch.equal(two.features_BTF[2:], one.features_BTF)
    assert torch.equal(two.tokens_BU, one.tokens_BU)
    whole = Loader(index, tokens, FeatureSettings(), None, 1).load(spec(index, [3, 0]), 2, 9).features_BTF
    seen = two.features_BTF[2:] != 0
    assert torch.equal(two.features_BTF[2:][seen], whole[seen])


def test_what_cannot_be_read_is_left_out_and_listed(index: CorpusIndex) -> None:
    gone, torn, other = index.utterance(1), index.utterance(2), index.utterance(4)
    gone.audio.unlink()
    torn.audio.write_bytes(torn.audio.read_bytes()[:5_000])
    write_audio(other.audio, 6.0, rate=8_000)
    batch = _loader(index).load(spec(index, [0, 1, 2, 3, 4]), 0, 0)
    assert batch.ids == [index.id(0), index.id(3)]
    assert batch.features_BTF.shape[0] == batch.tokens_BU.shape[0] == len(batch.token_lens_B) == 2
    reasons = dict(batch.dropped)
    assert set(reasons) == {gone.id, torn.id, other.id}
    assert "no such file" in reasons[gone.id]
    assert "truncated" in reasons[torn.id]
    assert "changed since the corpus was prepared" in reasons[other.id]


def test_a_micro_batch_of_which_nothing_is_left_is_empty(index: CorpusIndex) -> None:
    index.utterance(1).audio.unlink()
    wanted = spec(index, [1])
    batch = _loader(index).load(wanted, 0, 0)
    assert batch.features_BTF.shape == (0, wanted.num_frames, 80)
    assert len(batch.dropped) == 1


def test_a_spec_of_another_corpus_is_refused(index: CorpusIndex) -> None:
    wanted = spec(index, [0, 1])
    with pytest.raises(ValueError, match="frames"):
        _loader(index).load(replace(wanted, num_frames=10), 0, 0)
    with pytest.raises(ValueError, match="tokens"):
        _loader(index).load(replace(wanted, num_tokens=1), 0, 0)


def test_recognition_hears_what_training_does_without_augmentation(index: CorpusIndex) -> None:
    batch = _loader(index, augment=False).load(spec(index, [3]), 0, 0)
    assert torch.equal(recognition_features(LogMel(), index.utterance(3).audio), batch.features_BTF[0])


def test_prefetch_gives_the_same_in_order(index: CorpusIndex) -> None:
    specs = [spec(index, [row, row + 1]) for row in range(0, 10, 2)]
    work = [(specs[step : step + 2], 1, step) for step in range(4)]
    with _loader(index).prefetch(work) as loaded:
        fetched = list(loaded)
    direct = _loader(index)
    assert len(fetched) == 4
    for (these, epoch, step), batches in zip(work, fetched, strict=True):
        for one, batch in zip(these, batches, strict=True):
            expected = direct.load(one, epoch, step)
            assert _same(batch, expected)
            assert batch.dropout_key == expected.dropout_key


def test_prefetch_runs_ahead_but_not_without_end() -> None:
    started: list[int] = []
    with Prefetch(lambda item: started.append(item) or item, range(1000), depth=3) as results:
        assert next(results) == 0
        deadline = time.monotonic() + 60
        while len(started) < 4:  # of which one was taken
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(started) <= 6
    assert not any(thread.name == "hocket-prefetch" for thread in threading.enumerate())


def test_closing_prefetch_interrupts_what_waits() -> None:
    waiting, interrupted = threading.Event(), threading.Event()

    def make(item: int) -> bool:
        waiting.set()
        return interrupted.wait(600)

    with Prefetch(make, range(9), 2, interrupted.set):
        assert waiting.wait(60)
    interrupted.clear()
    results = Prefetch(str, range(2), 2, interrupted.set)
    assert list(results) == ["0", "1"]
    results.close()
    assert not interrupted.is_set()  # nothing was at work


def test_prefetch_raises_the_error_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("plan")

    def make(item: int) -> int:
        if item == 2:
            raise ZeroDivisionError
        return item

    results = Prefetch(make, items(), depth=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)
    with pytest.raises(KeyError, match="plan"):
        list(Prefetch(str, items(), depth=2))


def test_the_cache_stays_within_its_room_and_keeps_what_is_used() -> None:
    cache = FeatureCache(1)
    quarter = torch.zeros(1 << 16)
    for row in range(4):
        cache.put((row, 100), quarter)
    assert cache.get((0, 100)) is quarter
    cache.put((9, 100), quarter)
    assert cache.num_bytes == 1 << 20
    assert cache.get((0, 100)) is not None
    assert cache.get((1, 100)) is None
    cache.put((8, 100), torch.zeros(1 << 20))
    assert cache.get((8, 100)) is None
    assert len(cache) == 4


def test_rows_are_numpy_integers_too(index: CorpusIndex) -> None:
    assert index.utterance(np.int64(2)).id == index.id(2)  # type: ignore[arg-type]
