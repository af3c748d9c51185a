"""AN4 as it is handed out: SPHERE, or raw audio in either byte order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpora import noise
from hocket.core.errors import CorpusError
from hocket.corpus import audio, importers
from hocket.corpus.importers.base import ImportContext, Imported
from hocket.corpus.importers.raw_audio import byte_order
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare

NO_DEV = PrepareSettings(dev_fraction=0)


def _read(source: Path) -> Imported:
    context = ImportContext(source / "made", 1, lambda stage, done, total: None)
    return importers.find(str(source), None).read(str(source), context)


def _lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _an4(root: Path, suffix: str) -> Path:
    """Six utterances of three speakers for training, two for testing, laid out as AN4 is."""
    for split, folder, speakers in (("train", "an4_clstk", "abc"), ("test", "an4test_clstk", "d")):
        ids = [f"{folder}/{speaker}/an{number}-{speaker}-b" for speaker in speakers for number in (1, 2)]
        _lines(root / "etc" / f"an4_{split}.fileids", *ids)
        names = [fileid.rpartition("/")[2] for fileid in ids]
        _lines(
            root / "etc" / f"an4_{split}.transcription",
            *(f"<s> GO LEFT </s> ({name})" if split == "train" else f"STOP ({name})" for name in names),
        )
        for number, fileid in enumerate(ids):
            _write_an4_audio(root / "wav" / f"{fileid}{suffix[:4]}", suffix, seed=number)
    return root


def _write_an4_audio(path: Path, suffix: str, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = (noise(1.0, seed=seed) * 32767).astype(np.int16)
    if suffix == ".sph":
        soundfile.write(path, samples, 16_000, format="NIST", subtype="PCM_16")
    else:
        path.write_bytes(samples.astype(">i2" if suffix == ".raw>" else "<i2").tobytes())


@pytest.mark.parametrize("suffix", [".sph", ".raw>", ".raw<"])
def test_an4_in_every_form_it_is_handed_out_in(tmp_path: Path, suffix: str) -> None:
    root = _an4(tmp_path / "an4", suffix)
    assert importers.find(str(root), None) is importers.IMPORTERS["an4"]
    report = prepare(str(root), tmp_path / "out", settings=NO_DEV)
    assert {split: one.utterances for split, one in report.splits.items()} == {"train": 6, "test": 2}
    assert not report.left_out
    index = CorpusIndex.open(tmp_path / "out", "test")
    one = next(index.utterance(row) for row in range(2) if index.id(row) == "an2-d-b")
    assert (one.text, one.speaker) == ("STOP", "d")
    wanted = (noise(1.0, seed=1) * 32767).astype(np.int16)
    np.testing.assert_array_equal(np.round(audio.read(one.audio) * 32768), wanted)
    assert set(_texts(tmp_path / "out", "train")) == {"GO LEFT"}
    kept = "\n".join(report.notes)
    if suffix == ".sph":
        assert not (tmp_path / "out" / "audio").exists()
    else:
        assert f"8 raw files are read as 16 kHz, 16 bit, {'big' if suffix[-1] == '>' else 'little'}" in kept
        assert one.audio.is_relative_to(tmp_path / "out" / "audio")


def _texts(folder: Path, split: str) -> list[str]:
    index = CorpusIndex.open(folder, split)
    return [index.utterance(row).text for row in range(len(index))]


def test_what_is_amiss_in_an4_is_listed_with_file_and_line(tmp_path: Path) -> None:
    root = _an4(tmp_path / "an4", ".raw>")
    etc, wav = root / "etc", root / "wav" / "an4_clstk"
    (wav / "a" / "an1-a-b.raw").unlink()
    (wav / "b" / "an1-b-b.raw").write_bytes(b"\0\1\2")
    lines = (etc / "an4_train.transcription").read_text().splitlines()
    lines[1] = "<s> GO LEFT </s>"
    lines += [lines[2], "<s> WHO </s> (an9-z-b)"]
    _lines(etc / "an4_train.transcription", *lines)
    imported = _read(root)
    assert sorted(item.id for item in imported.items) == [
        "an1-c-b",
        "an1-d-b",
        "an2-b-b",
        "an2-c-b",
        "an2-d-b",
    ]
    reasons = {left.reason: left.where for left in imported.broken}
    transcription, fileids = etc / "an4_train.transcription", etc / "an4_train.fileids"
    for where, words in (
        (f"{transcription}:2", "not of the form <s> WORDS </s> (ID)"),
        (f"{transcription}:7", f"an1-b-b stands at {transcription}:3 already"),
        (f"{fileids}:1", f"no {wav}/a/an1-a-b with .sph, .wav, .flac, .raw"),
        (f"{fileids}:2", "no transcript of an4_clstk/a/an2-a-b in an4_train.transcription"),
        (f"{transcription}:8", "an9-z-b is not in an4_train.fileids"),
        (f"{transcription}:3", "truncated: 3 bytes are no whole number of 16-bit samples"),
    ):
        assert any(words in reason and found == where for reason, found in reasons.items()), words
    assert len(reasons) == 6


def test_silence_has_no_byte_order(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    with pytest.raises(CorpusError, match="byte order of this raw audio cannot be told"):
        byte_order([tmp_path / "a.raw"])
