"""Shards: the sources' own bytes, the same whoever writes them, each utterance one stretch of a tar."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import soundfile

from corpora import noise, write_audio, write_table
from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import audio
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.report import read_corpus
from hocket.corpus.shards import ogg, shar
from hocket.corpus.shards.sharding import equal_borders

SETTINGS = PrepareSettings(dev_fraction=0, block_size=4, shards=True, shard_mb=0.2, workers=1)
ENCODED = {encode: replace(SETTINGS, encode=encode) for encode in get_args(shar.Encoding)}


def _source(folder: Path) -> Path:
    """FLAC, WAV, Opus and stereo files, and parts of a long FLAC and of a long Opus file."""
    rows = []
    for number in range(18):
        ending = ("flac", "wav", "opus")[number % 3]
        path = folder / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        x = noise(1.0 + 0.05 * number, 16_000, number, channels=2 if number == 4 else 1)
        if ending == "opus":
            soundfile.write(path, x, 16_000, format="OGG", subtype="OPUS")
        else:
            soundfile.write(path, x, 16_000)
        rows.append({"id": f"a/{number}.x", "audio": path.name, "text": "go", "speaker": f"s{number % 3}"})
    write_audio(folder / "long.flac", 6.0, seed=50)
    soundfile.write(folder / "long.ogg", noise(6.0, 16_000, 51), 16_000, format="OGG", subtype="OPUS")
    for number in range(4):
        for name in ("long.flac", "long.ogg"):
            row = {"id": f"{name}-{number}", "audio": name, "text": "left", "start": 1.3 * number}
            rows.append(row | {"duration": 1.25})
    return write_table(folder, rows)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same corpus as files and in shards."""
    root = tmp_path_factory.mktemp("shards")
    table = str(_source(root / "source"))
    prepare(table, root / "plain", settings=replace(SETTINGS, shards=False, workers=0))
    prepare(table, root / "shards", settings=SETTINGS)
    return root / "plain", root / "shards"


def _hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_utterances_sound_the_same_from_shards(folders: tuple[Path, Path]) -> None:
    plain, shards = (CorpusIndex.open(folder, "train") for folder in folders)
    assert plain.fingerprint == shards.fingerprint
    assert shards.places is not None and len(shards.places.shards) > 2
    for row in range(len(plain)):
        one, other = plain.utterance(row), shards.utterance(row)
        assert other.audio.parent == folders[1] / "train" / "shar"
        expected = audio.read(one.audio, one.channel, one.start, one.num)
        heard = audio.read(other.audio, other.channel, other.start, other.num, other.member)
        assert np.array_equal(expected, heard)
        if not one.audio.name.startswith("long"):
            first, size = other.member or (0, 0)
            assert other.audio.read_bytes()[first : first + size] == one.audio.read_bytes()


def test_blocks_are_stretches_whose_checksums_hold(folders: tuple[Path, Path]) -> None:
    index = CorpusIndex.open(folders[1], "train")
    places = index.places
    assert places is not None
    assert sum(shard.num_rows for shard in places.shards) == len(index)
    seen: list[int] = []
    for block in range(index.num_blocks):
        stretch = places.stretch(block, index.block_starts)
        whole = (folders[1] / stretch.shard.name).read_bytes()
        data = bytearray(whole[stretch.offset : stretch.offset + stretch.length])
        assert places.damaged(stretch, memoryview(data)) == []
        seen += range(stretch.first_row, stretch.last_row)
        place = int(places.offset[stretch.first_row + 1]) - stretch.offset + 7
        data[place] ^= 1
        assert places.damaged(stretch, memoryview(data)) == [stretch.first_row + 1]
    assert seen == list(range(len(index)))
    for shard in places.shards:
        data = (folders[1] / shard.name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.size, shard.sha256)


def test_lhotse_reads_them(folders: tuple[Path, Path]) -> None:
    lhotse = pytest.importorskip("lhotse")
    index = CorpusIndex.open(folders[1], "train")
    cuts = list(lhotse.CutSet.from_shar(in_dir=str(folders[1] / "train" / "shar")))
    assert [cut.id for cut in cuts] == [index.id(row) for row in range(len(index))]
    for row, cut in enumerate(cuts):
        utterance = index.utterance(row)
        assert cut.supervisions[0].text == utterance.text
        heard = audio.read(utterance.audio, None, utterance.start, utterance.num, utterance.member)
        x_CN = cut.load_audio()
        assert np.allclose(audio.resample(x_CN.mean(axis=0), cut.sampling_rate), heard, atol=1e-6)


def test_the_bytes_are_the_same_for_any_workers(folders: tuple[Path, Path], tmp_path: Path) -> None:
    table = str(folders[0].parent / "source" / "manifest.jsonl")
    prepare(table, tmp_path / "again", settings=replace(SETTINGS, workers=3))
    assert _hashes(tmp_path / "again") == _hashes(folders[1])


def test_flac_has_the_same_samples(folders: tuple[Path, Path], tmp_path: Path) -> None:
    prepare(str(folders[0].parent / "source" / "manifest.jsonl"), tmp_path / "flac", settings=ENCODED["flac"])
    plain, encoded = (CorpusIndex.open(folder, "train") for folder in (folders[0], tmp_path / "flac"))
    assert plain.fingerprint == encoded.fingerprint
    endings = set()
    for row in range(len(plain)):
        one, other = plain.utterance(row), encoded.utterance(row)
        expected = audio.read(one.audio, one.channel, one.start, one.num)
        assert np.array_equal(
            expected, audio.read(other.audio, other.channel, other.start, other.num, other.member)
        )
        endings.add((one.audio.suffix, audio.probe(other.audio, other.member).format))
    # Opus files stay as they are; a part of one is kept as the numbers that come of it.
    kept = {(".opus", "OGG/OPUS"), (".ogg", "WAV/FLOAT")}
    assert endings == {(".flac", "FLAC/PCM_16"), (".wav", "FLAC/PCM_16"), *kept}


def test_opus_is_smaller_and_the_same_bytes_for_any_workers(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    table = str(folders[0].parent / "source" / "manifest.jsonl")
    for workers in (1, 2):
        prepare(table, tmp_path / str(workers), settings=replace(ENCODED["opus"], workers=workers))
    assert _hashes(tmp_path / "1" / "train" / "shar") == _hashes(tmp_path / "2" / "train" / "shar")
    plain, encoded = (CorpusIndex.open(folder, "train") for folder in (folders[0], tmp_path / "1"))
    for row in range(len(plain)):
        one, other = plain.utterance(row), encoded.utterance(row)
        expected = audio.read(one.audio, one.channel, one.start, one.num)
        heard = audio.read(other.audio, other.channel, other.start, other.num, other.member)
        assert len(heard) == len(expected)
        assert np.corrcoef(heard, expected)[0, 1] > 0.7  # of noise, which Opus has nothing to go by
        if one.audio.suffix in (".flac", ".wav"):
            assert audio.probe(other.audio, other.member).format == "OGG/OPUS"
            assert other.member is not None and other.member[1] < one.num


def test_an_encoding_without_shards_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encode: opus is for recordings in shards"):
        prepare(str(folders[0]), tmp_path / "out", settings=replace(ENCODED["opus"], shards=False))


def test_only_ogg_streams_are_numbered_anew() -> None:
    with pytest.raises(ValueError, match="byte 0"):
        ogg.numbered(b"RIFF" + bytes(40), 1)


def test_a_start_after_a_kill_keeps_what_was_written(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = str(folders[0].parent / "source" / "manifest.jsonl")
    whole, done = shar.write, []

    def dies(job: shar.Job) -> shar.Written:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(job.number)
        return whole(job)

    monkeypatch.setattr(shar, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        prepare(table, tmp_path / "out", settings=SETTINGS)
    assert not (tmp_path / "out").exists()
    done.clear()
    monkeypatch.setattr(shar, "write", lambda job: (done.append(job.number), whole(job))[1])
    report = prepare(table, tmp_path / "out", settings=SETTINGS)
    assert done == list(range(2, report.shards["train"].num_shards))
    assert _hashes(tmp_path / "out") == _hashes(folders[1])
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]


def test_a_source_that_changed_is_not_taken_from_an_earlier_try(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shutil.copytree(folders[0].parent / "source", tmp_path / "source")
    finished = shar.write

    def dies_at_the_end(job: shar.Job) -> shar.Written:
        if job.number == 3:
            raise KeyboardInterrupt
        return finished(job)

    monkeypatch.setattr(shar, "write", dies_at_the_end)
    with pytest.raises(KeyboardInterrupt):
        prepare(str(source / "manifest.jsonl"), tmp_path / "out", settings=SETTINGS)
    monkeypatch.undo()
    soundfile.write(source / "1.wav", noise(1.05, 16_000, 99), 16_000)
    os.utime(source / "1.wav", (1, 1))
    prepare(str(source / "manifest.jsonl"), tmp_path / "out", settings=SETTINGS)
    index = CorpusIndex.open(tmp_path / "out", "train")
    row = next(row for row in range(len(index)) if index.id(row) == "a/1.x")
    u = index.utterance(row)
    assert np.array_equal(audio.read(u.audio, None, u.start, u.num, u.member), audio.read(source / "1.wav"))


def test_a_recording_that_is_gone_is_named(tmp_path: Path) -> None:
    entry = shar.Entry("u1", tmp_path / "gone.wav", None, 0, 5, "go", None)
    with pytest.raises(CorpusError, match=r"u1: .*gone.wav: .*no such file"):
        shar.write(shar.Job(tmp_path, 0, [entry], [1]))
    assert list(tmp_path.iterdir()) == []


def test_shards_of_another_index_are_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    plain = shutil.copytree(folders[0], tmp_path / "plain")
    prepare(
        str(folders[0].parent / "source" / "manifest.jsonl"),
        tmp_path / "other",
        settings=replace(SETTINGS, shards=False, block_size=5),
    )
    for name in ("places.arrow", "blocks.arrow"):
        shutil.copy(folders[1] / "train" / name, plain / "train" / name)
    assert CorpusIndex.open(plain, "train").places is not None
    (plain / "train" / "blocks.arrow").unlink()
    with pytest.raises(CorpusError, match=r"blocks\.arrow: it is not there"):
        CorpusIndex.open(plain, "train")
    shutil.copy(folders[1] / "train" / "blocks.arrow", plain / "train")
    shutil.copy(tmp_path / "other" / "train" / "index.arrow", plain / "train" / "index.arrow")
    with pytest.raises(CorpusError, match="another corpus than the index"):
        CorpusIndex.open(plain, "train")


def test_the_report_says_what_the_shards_are(folders: tuple[Path, Path]) -> None:
    told = read_corpus(folders[1])["shards"]["train"]
    sizes = [path.stat().st_size for path in (folders[1] / "train" / "shar").glob("*.tar")]
    assert (told["num_shards"], told["num_bytes"], told["smallest"]) == (len(sizes), sum(sizes), min(sizes))
    assert "shards" not in read_corpus(folders[0])
    assert read_corpus(folders[0])["fingerprint"] == read_corpus(folders[1])["fingerprint"]


def test_borders_are_as_near_to_equal_as_blocks_allow() -> None:
    draw = np.random.default_rng(1)
    weights = draw.integers(1, 1000, 640)
    starts = np.arange(0, 641, 8)
    borders = equal_borders(weights, starts, weights.sum() / 7)
    assert len(borders) == 8
    sizes = np.add.reduceat(weights, starts[borders[:-1]])
    largest_block = np.add.reduceat(weights, starts[:-1]).max()
    assert np.abs(sizes - sizes.mean()).max() <= largest_block
    assert equal_borders(np.full(640, 3), starts, 1.0).tolist() == list(range(81))
    assert equal_borders(weights, starts, 1e9).tolist() == [0, 80]


def test_cuts_of_lhotse_come_back_whole(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    path = write_audio(tmp_path / "talk.flac", 5.0, channels=2)
    recording = lhotse.Recording.from_file(path)
    cuts = []
    for number, (start, duration) in enumerate([(0.0, 5.0), (0.5, 1.5), (2.0, 2.25)]):
        cut = lhotse.MonoCut(f"c{number}", start, duration, channel=number % 2, recording=recording)
        words = [("Go  Left", 0.1, 0.6, "ann"), ("Right", 0.8, 0.5, "bob")]
        cut.supervisions = [
            lhotse.SupervisionSegment(
                f"{cut.id}-{place}",
                recording.id,
                begin,
                length,
                channel=number % 2,
                text=text,
                speaker=speaker,
                language="en",
                gender="f",
                custom={"snr": 7.5},
            ).with_alignment("word", [lhotse.supervision.AlignmentItem(text, begin, length, 0.5)])
            for place, (text, begin, length, speaker) in enumerate(words)
        ]
        cut.custom = {"session": f"s{number}", "tags": ["a", "b"]}
        cuts.append(cut)
    source = tmp_path / "cuts_train.jsonl.gz"
    lhotse.CutSet.from_cuts(cuts).to_file(source)
    settings = replace(SETTINGS, case="lower", block_size=2)
    prepare(str(source), tmp_path / "out", settings=settings)
    for cut in cuts:
        for supervision in cut.supervisions:
            supervision.text = " ".join(supervision.text.lower().split())
    wanted = {cut.id: cut.to_dict() for cut in cuts}
    found = lhotse.CutSet.from_file(tmp_path / "out" / "train" / "cuts.jsonl.gz")
    assert {cut.id: cut.to_dict() for cut in found} == wanted
    for cut in lhotse.CutSet.from_shar(in_dir=str(tmp_path / "out" / "train" / "shar")):
        told, original = cut.to_dict(), wanted[cut.id]
        assert told["supervisions"] == original["supervisions"]
        assert {name: told["custom"][name] for name in original["custom"]} == original["custom"]
        assert np.array_equal(cut.load_audio(), lhotse.MonoCut.from_dict(original).load_audio())
