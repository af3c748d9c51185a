"""Storage: the same audio from files, shards, a far store and a cache; every fault mended or named."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from corpora import spoken_table
from faulty_store import FaultyServer, serving
from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.future import Future
from hocket.core.cost import CostModel
from hocket.core.errors import CorpusError, UsageError
from hocket.core.work import MicroBatch
from hocket.corpus.augment import AugmentSettings, NoiseSettings
from hocket.corpus.features import FeatureSettings
from hocket.corpus.index import CorpusIndex
from hocket.corpus.loading import Loader, LoadingSettings
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.storage.block_memory import BlockMemory
from hocket.corpus.storage.meter import Counts
from hocket.corpus.storage.recordings import Storage
from hocket.corpus.storage.shard_source import Held, ShardSource, StorageSettings
from hocket.corpus.tokens import Tokens
from hocket.studies.storage import read_pass

SETTINGS = PrepareSettings(dev_fraction=0, block_size=4, shards=True, shard_mb=0.4, workers=1)
STEPS = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("storage")
    table = str(spoken_table(root / "source", 24))
    prepare(table, root / "plain", settings=replace(SETTINGS, shards=False))
    prepare(table, root / "shards", settings=SETTINGS)
    return root / "plain", root / "shards"


@pytest.fixture
def far(folders: tuple[Path, Path], tmp_path: Path) -> Iterator[FaultyServer]:
    """The shards behind HTTP; the folder that is served may be written to."""
    with serving(shutil.copytree(folders[1], tmp_path / "served")) as server:
        yield server


def _settings(tmp_path: Path, **changes: Any) -> StorageSettings:
    given = {"cache": tmp_path / "cache", "timeout_seconds": 60.0, "give_up_seconds": 60.0, **changes}
    return StorageSettings.model_validate(given)


def _loader(index: CorpusIndex, storage: Storage | None, noise: bool = False) -> tuple[Loader, BatchPlan]:
    augment = AugmentSettings(noise=NoiseSettings(probability=0.5 if noise else 0.0, sources=("babble",)))
    batch = BatchSettings(seconds=8.0, micro_batches_per_step=2, pool_steps=2)
    plan = BatchPlan(index, batch, CostModel(a0=0, a=1e-3, b=1e-4, c=0, d=0), seed=3)
    tokens = Tokens.load(index.folder)
    loading = LoadingSettings(cache_mb=0)
    return Loader(index, tokens, FeatureSettings(), augment, 3, loading, storage=storage), plan


def _course(
    folder: Path,
    settings: StorageSettings | None,
    store: str | None = None,
    on_step: Callable[[int], None] = lambda step: None,
    noise: bool = False,
) -> tuple[list[MicroBatch], Counts]:
    """All micro-batches of some epochs as training loads them, and what storage counted."""
    index = CorpusIndex.open(folder, "train")
    _, plan = _loader(index, None)
    storage = None
    if settings is not None:
        storage = Storage.open([(index, store)], settings, Future(plan, STEPS))
    loader, _ = _loader(index, storage, noise)
    loaded: list[MicroBatch] = []

    def work() -> Iterator[Any]:
        for step in range(STEPS):
            on_step(step)
            batch = plan.global_batch(step)
            yield batch.micro_batches, batch.epoch, step

    try:
        with loader.prefetch(work()) as batches:
            for several in batches:
                loaded += several
    finally:
        loader.close()
    return loaded, Counts() if storage is None else storage.meter.total


def _same(ours: list[MicroBatch], theirs: list[MicroBatch]) -> bool:
    return len(ours) == len(theirs) and all(
        one.ids == other.ids
        and one.keys == other.keys
        and torch.equal(one.features_BTF, other.features_BTF)
        and torch.equal(one.tokens_BU, other.tokens_BU)
        for one, other in zip(ours, theirs, strict=True)
    )


@pytest.fixture(scope="module")
def expected(folders: tuple[Path, Path]) -> list[MicroBatch]:
    return _course(folders[0], None)[0]


def test_audio_is_the_same_from_everywhere(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, expected: list[MicroBatch]
) -> None:
    assert sum(len(batch.ids) for batch in expected) >= 2 * 24
    assert not any(batch.dropped for batch in expected)
    near, counts = _course(folders[1], _settings(tmp_path))
    assert _same(near, expected)
    assert counts.disk_bytes == 0 and counts.damaged == 0
    needed = counts.needed_bytes
    cold, counts = _course(folders[1], _settings(tmp_path), far.address)
    assert _same(cold, expected)
    assert counts.needed_bytes == needed > 0
    assert counts.hit_rate == 1.0 - counts.store_bytes / needed
    size = sum(path.stat().st_size for path in (folders[1] / "train" / "shar").glob("*.tar"))
    assert 0 < counts.fetched_bytes - counts.hedged_bytes <= size  # a second epoch comes from the disk
    before = far.num_bytes
    warm, counts = _course(folders[1], _settings(tmp_path), far.address)
    assert _same(warm, expected)
    assert (far.num_bytes, counts.fetched_bytes, counts.store_bytes) == (before, 0, 0)
    assert counts.hit_rate == 1.0
    uncached, counts = _course(folders[1], _settings(tmp_path, cache_gb=0), far.address)
    assert _same(uncached, expected)
    assert counts.disk_bytes == 0


def test_a_pass_over_a_store_counts_what_was_decoded(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    index = CorpusIndex.open(folders[1], "train")
    assert index.places is not None
    size = int(index.places.size.sum())
    whole = read_pass(index, far.address, _settings(tmp_path))
    assert (whole.utterances, whole.needed_bytes) == (len(index), size)
    assert whole.megabytes_per_second == size / whole.seconds / 1e6
    halves = [read_pass(index, far.address, _settings(tmp_path), part=(number, 2)) for number in range(2)]
    assert sum(half.utterances for half in halves) == len(index)
    assert sum(half.needed_bytes for half in halves) == size  # though each reads whole blocks


def test_blocks_in_memory_are_counted_when_they_are_first_asked_for(folders: tuple[Path, Path]) -> None:
    index = CorpusIndex.open(folders[1], "train")
    assert index.places is not None
    memory = BlockMemory(1 << 20)

    def held(block: int) -> Held:
        assert index.places is not None
        stretch = index.places.stretch(block, index.block_starts)
        return Held(stretch, memoryview(bytes(stretch.length)))

    memory.read_ahead((0, 0), lambda: held(0), lambda _: True)
    assert (memory.num_asked, memory.ahead_bytes > 0) == (0, True)
    assert [memory.get((0, number), partial(held, number))[1] for number in (0, 0, 1, 1)] == [
        *(True, True),
        *(False, True),
    ]
    assert (memory.num_asked, memory.ahead_bytes) == (2, 0)

    begun, asked = threading.Event(), threading.Event()

    def slow() -> Held:
        begun.set()
        assert asked.wait(60)
        return held(2)

    reader = threading.Thread(target=memory.read_ahead, args=((0, 2), slow, lambda _: False))
    reader.start()
    assert begun.wait(60)
    waiting = threading.Thread(target=memory.get, args=((0, 2), partial(held, 2)))
    waiting.start()
    while memory.num_asked < 3:
        pass
    asked.set()
    for thread in (reader, waiting):
        thread.join(60)
    assert (0, 2) in memory  # somebody waited for it
    assert memory.ahead_bytes == 0


def test_babble_and_validation_read_through_the_store(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    plain, _ = _course(folders[0], None, noise=True)
    moved = tmp_path / "index-alone"
    shutil.copytree(folders[1], moved, ignore=shutil.ignore_patterns("shar"))
    noisy, _ = _course(moved, _settings(tmp_path), far.address, noise=True)
    assert _same(noisy, plain)
    index = CorpusIndex.open(moved, "train")
    storage = Storage.open([(index, far.address)], _settings(tmp_path))
    assert storage is not None
    seen = far.num_bytes
    for row in range(len(index)):
        utterance = index.utterance(row)
        original = CorpusIndex.open(folders[0], "train").utterance(row).audio.read_bytes()
        assert bytes(storage.read(row, in_order=False) or b"") == original, utterance.id
    assert far.num_bytes == seen
    storage.close()


@pytest.mark.parametrize("fault", ["500", "short", "all", "flip", "hang"])
def test_faults_that_pass_are_asked_for_again(
    fault: str, folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, expected: list[MicroBatch]
) -> None:
    far.fault = lambda path, number: fault if number in (0, 2, 3) else None
    settings = _settings(tmp_path, timeout_seconds=0.4 if fault == "hang" else 60.0, give_up_seconds=120.0)
    found, counts = _course(folders[1], settings, far.address)
    assert _same(found, expected)
    assert counts.retries >= 3
    assert counts.damaged == (3 if fault == "flip" else 0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [("500", "500"), ("short", "."), ("all", "bytes came where"), ("hang", "no answer in")],
)
def test_faults_that_stay_are_named(
    fault: str, words: str, folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    far.fault = lambda path, number: fault
    # Where answers come, none is too late, however busy this machine is.
    patience = 0.2 if fault == "hang" else 60.0
    settings = _settings(tmp_path, timeout_seconds=patience, give_up_seconds=0.5)
    with pytest.raises(CorpusError, match=rf"{far.address}: train/shar/.*not be read for 0.5 s.*{words}"):
        _course(folders[1], settings, far.address)


def test_who_leaves_does_not_wait_for_a_silent_store(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    far.fault = lambda path, number: "hang"
    index = CorpusIndex.open(folders[1], "train")
    settings = _settings(tmp_path, timeout_seconds=600.0, give_up_seconds=600.0)
    storage = Storage.open([(index, far.address)], settings)
    loader, plan = _loader(index, storage)
    batch = plan.global_batch(0)
    loading = loader.prefetch([(batch.micro_batches, 0, 0)])
    while far.num_requests == 0:
        pass
    leaving = threading.Thread(target=lambda: (loading.close(), loader.close()), daemon=True)
    leaving.start()
    leaving.join(60)
    assert not leaving.is_alive()


def test_what_a_thread_that_reads_ahead_fails_with_is_not_lost(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: ShardSource, block: int) -> Held:
        raise ZeroDivisionError("nobody thought of this")

    monkeypatch.setattr(ShardSource, "block", fail)
    with pytest.raises(ZeroDivisionError):
        _course(folders[1], _settings(tmp_path), far.address)
    index = CorpusIndex.open(folders[1], "train")
    _, plan = _loader(index, None)
    storage = Storage.open([(index, far.address)], _settings(tmp_path), Future(plan, STEPS))
    storage.at(0)
    try:
        with pytest.raises(ZeroDivisionError):  # though nobody has asked for anything
            while True:
                storage.at(1)
    finally:
        storage.close()


def test_a_flipped_byte_costs_its_utterance_and_is_named(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, expected: list[MicroBatch]
) -> None:
    index = CorpusIndex.open(folders[1], "train")
    assert index.places is not None
    item = index.places.item(5)
    path = far.folder / item.shard.name
    data = bytearray(path.read_bytes())
    data[item.offset + item.length // 2] ^= 0x10
    path.write_bytes(data)
    for store in (far.address, str(far.folder)):
        found, counts = _course(folders[1], _settings(tmp_path), store)
        assert counts.damaged >= 3
        dropped = {entry for batch in found for entry in batch.dropped}
        assert {id for id, _ in dropped} == {index.id(5)}
        (reason,) = {reason for _, reason in dropped}
        assert f"{item.shard.name}: bytes {item.offset} to" in reason
        for one, other in zip(found, expected, strict=True):
            assert one.ids == [id for id in other.ids if id != index.id(5)]


def test_a_truncated_shard_is_named(folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path) -> None:
    path = far.folder / "train" / "shar" / "recording.000001.tar"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole // 2])
    for store in (far.address, str(far.folder)):
        with pytest.raises(CorpusError, match=rf"recording.000001.tar has .* bytes, {whole:,} were written"):
            _course(folders[1], _settings(tmp_path / store.strip("/").replace("/", "-")), store)


def test_a_shard_that_is_replaced_during_a_run_is_noticed(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    path = far.folder / "train" / "shar" / "recording.000000.tar"

    def replace_it(step: int) -> None:
        if step == 4:
            path.write_bytes(bytes(reversed(path.read_bytes())))

    with pytest.raises(CorpusError, match=r"recording.000000.tar is another file than the index knows"):
        _course(folders[1], _settings(tmp_path, cache_gb=0, memory_mb=1), far.address, replace_it)


def test_other_shards_and_no_shards_are_refused_at_once(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path
) -> None:
    plain = CorpusIndex.open(folders[0], "train")
    with pytest.raises(CorpusError, match="is not in shards"):
        Storage.open([(plain, far.address)], _settings(tmp_path))
    assert Storage.open([(plain, None)], _settings(tmp_path)) is None
    shards = CorpusIndex.open(folders[1], "train")
    told = (far.folder / "corpus.json").read_text()
    assert shards.places is not None
    (far.folder / "corpus.json").write_text(told.replace(shards.places.fingerprint, "0" * 16))
    with pytest.raises(CorpusError, match="the shards of train there are others"):
        Storage.open([(shards, far.address)], _settings(tmp_path))
    (far.folder / "corpus.json").write_text("{}")
    with pytest.raises(CorpusError, match="tells of no shards of train"):
        Storage.open([(shards, far.address)], _settings(tmp_path))
    with pytest.raises(CorpusError, match=r"FileNotFoundError"):
        _course(folders[1], _settings(tmp_path), far.address + "/elsewhere")
    with pytest.raises(UsageError, match="no such kind of store"):
        Storage.open([(shards, "nowhere://x")], _settings(tmp_path))


def test_a_full_disk_costs_the_cache_alone(
    folders: tuple[Path, Path],
    far: FaultyServer,
    tmp_path: Path,
    expected: list[MicroBatch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    found, counts = _course(folders[1], _settings(tmp_path), far.address)
    assert _same(found, expected)
    assert counts.not_kept >= 1
    assert counts.disk_bytes == 0


def test_blocks_are_not_kept_in_the_folder_of_somebody_else(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index, own = CorpusIndex.open(folders[1], "train"), os.getuid()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    storage = Storage.open([(index, far.address)], StorageSettings())
    assert storage is not None and (tmp_path / f"hocket-cache-{own}" / "ledger").is_file()
    storage.close()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(CorpusError, match=rf"hocket-cache-{own + 1}: it belongs to somebody else"):
        Storage.open([(index, far.address)], StorageSettings())


def test_a_damaged_block_on_the_disk_is_fetched_again(
    folders: tuple[Path, Path], far: FaultyServer, tmp_path: Path, expected: list[MicroBatch]
) -> None:
    _course(folders[1], _settings(tmp_path), far.address)
    blocks = [path for path in (tmp_path / "cache").glob("train-*/??/*") if path.is_file()]
    assert len(blocks) == CorpusIndex.open(folders[1], "train").num_blocks
    for path in blocks[:3]:
        data = bytearray(path.read_bytes())
        data[10] ^= 1
        path.write_bytes(data)
    blocks[3].write_bytes(blocks[3].read_bytes()[:-5])
    blocks[4].unlink()
    blocks[4].mkdir()  # what cannot be read at all
    found, counts = _course(folders[1], _settings(tmp_path), far.address)
    assert _same(found, expected)
    assert counts.damaged >= 5
    assert counts.store_bytes > 0
    blocks[4].rmdir()
    _course(folders[1], _settings(tmp_path), far.address)
    again, counts = _course(folders[1], _settings(tmp_path), far.address)
    assert _same(again, expected)
    assert counts.fetched_bytes == 0
