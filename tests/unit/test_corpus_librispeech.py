"""LibriSpeech as it is handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora import spoken_table, write_audio
from hocket.core.errors import CorpusError
from hocket.corpus import importers
from hocket.corpus.importers.base import ImportContext, Imported
from hocket.corpus.prepare import PrepareSettings, prepare

NO_DEV = PrepareSettings(dev_fraction=0)


def _read(source: Path) -> Imported:
    context = ImportContext(source / "made", 1, lambda stage, done, total: None)
    return importers.find(str(source), None).read(str(source), context)


def _lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _librispeech(root: Path) -> Path:
    parts = ("train-clean-100", "train-other-500", "dev-other", "test-clean", "test-other")
    for number, part in enumerate(parts):
        for speaker in ("19", "26"):
            folder = root / part / f"{number}{speaker}" / "198"
            names = [f"{folder.parent.name}-198-{utterance:04}" for utterance in range(2)]
            for name in names:
                write_audio(folder / f"{name}.flac", 1.0, seed=number)
            _lines(folder / f"{folder.parent.name}-198.trans.txt", *(f"{name} GO LEFT" for name in names))
    _lines(root / "SPEAKERS.TXT", "; who speaks")
    return root


def test_librispeech(tmp_path: Path) -> None:
    root = _librispeech(tmp_path / "LibriSpeech")
    for source in (root, tmp_path):
        assert importers.find(str(source), None) is importers.IMPORTERS["librispeech"]
    report = prepare(str(tmp_path), tmp_path / "out", settings=NO_DEV)
    assert {split: (one.utterances, one.speakers) for split, one in report.splits.items()} == {
        "train": (8, 4),
        "dev": (4, 2),
        "test-clean": (4, 2),
        "test-other": (4, 2),
    }
    assert report.notes[:3] == [
        "dev-other is part of dev",
        "train-clean-100 is part of train",
        "train-other-500 is part of train",
    ]
    (part,) = {item.split for item in _read(root / "dev-other").items}
    assert part == "dev"
    first = _read(root / "dev-other").items[0]
    assert (first.id, first.speaker, first.text) == ("219-198-0000", "219", "GO LEFT")
    assert first.where == f"{root}/dev-other/219/198/219-198.trans.txt:1"


def test_what_is_amiss_in_librispeech_is_listed(tmp_path: Path) -> None:
    root = _librispeech(tmp_path / "LibriSpeech")
    chapter = root / "dev-other" / "219" / "198"
    (chapter / "219-198-0000.flac").unlink()
    write_audio(chapter / "219-198-0007.flac", 1.0)
    gone, silent = _read(root).broken
    assert gone.reason == f"{chapter}/219-198.trans.txt:1: no {chapter}/219-198-0000.flac"
    assert silent.reason == f"{chapter}/219-198-0007.flac: no transcript of it in 219-198.trans.txt"


def test_a_folder_of_two_formats_asks_which(tmp_path: Path) -> None:
    root = _librispeech(tmp_path / "LibriSpeech")
    spoken_table(root)
    with pytest.raises(CorpusError, match=r"any of table, librispeech(.|\n)*--format table"):
        importers.find(str(root), None)
    assert importers.find(str(root), "librispeech") is importers.IMPORTERS["librispeech"]
