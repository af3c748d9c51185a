"""Kaldi data directories are read as Kaldi means them, and nothing in them is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora import write_audio
from hocket.core.errors import CorpusError
from hocket.corpus import importers
from hocket.corpus.importers.base import ImportContext, Imported
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare


def _read(source: Path) -> Imported:
    importer = importers.find(str(source), None)
    assert importer is importers.IMPORTERS["kaldi"]
    return importer.read(str(source), ImportContext(Path("unused"), 1, lambda stage, done, total: None))


def _write(folder: Path, **files: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / name.replace("wav_scp", "wav.scp")).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_whole_recordings(tmp_path: Path) -> None:
    one, two = (write_audio(tmp_path / "audio" / f"{name}.wav", 1.5) for name in "ab")
    data = _write(
        tmp_path / "mine",
        wav_scp=[f"a {one}", f"b  {two} "],
        text=["b go  left", "a straße", "c said by nobody"],
        utt2spk=["a ann"],
        utt2dur=["a 99"],
    )
    imported = _read(data)
    a, b = imported.items
    assert (a.id, a.audio, a.text, a.speaker, a.split) == ("a", one, "straße", "ann", None)
    assert (b.audio, b.text, b.speaker, b.where) == (two, "go  left", None, f"{data}/wav.scp:2")
    assert (a.start_seconds, a.duration_seconds) == (None, None)
    assert imported.name == "mine"
    assert imported.notes == [f"{data}/text: 1 transcripts are of no utterance, such as c"]


def test_segments(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "long.wav", 4.0, channels=2)
    lines = [
        ("u1 long 0.5 1.25", (0.5, 0.75, None)),
        ("u2 long 1.5 -1", (1.5, 2.5, None)),
        ("u3 long 3 4.3", (3.0, 1.0, None)),
        ("u4 long 0 1 1", (0.0, 1.0, 1)),
    ]
    data = _write(
        tmp_path / "train_all",
        wav_scp=[f"long {path}"],
        segments=[line for line, _ in lines],
        text=[f"u{number} go" for number in range(1, 5)],
    )
    imported = _read(data)
    for item, (_, wanted) in zip(imported.items, lines, strict=True):
        assert (item.start_seconds, item.duration_seconds, item.channel) == wanted
    assert {item.split for item in imported.items} == {"train"}
    assert imported.notes == [
        f"{data}: 1 segments end up to 0.5 s after their recordings, and were cut there"
    ]
    prepare(str(data), tmp_path / "out", settings=PrepareSettings(dev_fraction=0))
    index = CorpusIndex.open(tmp_path / "out", "train")
    lengths = {index.id(row): int(index.num_samples[row]) for row in range(len(index))}
    assert lengths == {"u1": 12_000, "u2": 40_000, "u3": 16_000, "u4": 16_000}


def test_a_segment_to_the_very_end_is_never_a_sample_too_long(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "odd.wav", 11 / 8000, rate=8000)
    data = _write(
        tmp_path / "d",
        wav_scp=[f"r {path}"],
        segments=[f"u r {3.5 / 8000} {11 / 8000}"],
        text=["u go"],
    )
    (item,) = _read(data).items
    assert item.start_seconds is not None and item.duration_seconds is not None
    assert round(item.start_seconds * 8000) + round(item.duration_seconds * 8000) == 11


def test_what_cannot_be_used_is_listed_with_file_and_line(tmp_path: Path) -> None:
    path = write_audio(tmp_path / "r.wav", 3.0)
    good = [f"u{number} r {number / 10} {number / 10 + 1}" for number in range(15)]
    bad = [
        ("x1 r 1", "broken line", "not UTTERANCE RECORDING START END"),
        ("x2 r one 2", "broken line", "not a number: could not convert string to float: 'one'"),
        ("x3 r 2 1", "broken line", "no stretch of time: 2 to 1 s"),
        ("x4 nobody 0 1", "broken line", "the recording 'nobody' is not in wav.scp"),
        ("x5 r 9 10", "broken line", f"it starts at 9 s, {path} ends at 3.00 s"),
        ("x6 piped 0 1", "audio is a command", "wav.scp:2: 'piped' is the output of a command, 'sph2pipe"),
        ("x7 ark 0 1", "audio in an archive", "wav.scp:3: 'ark' lies in an archive, 'raw.ark:17'"),
        ("x8 gone 0 1", "unreadable audio", "gone.wav: no such file"),
        ("x9 r 0 1", "no transcript", "'x9' has no line in"),
        ("u3 r 0 1", "", ""),
    ]
    data = _write(
        tmp_path / "data",
        wav_scp=[f"r {path}", "piped sph2pipe -f wav x.sph |", "ark raw.ark:17", "gone gone.wav", "r b.wav"],
        segments=[*good, *(line for line, _, _ in bad[:-1])],
        text=[f"{line.split()[0]} go" for line in [*good, *(line for line, _, _ in bad[:-2])]],
    )
    with (data / "text").open("ab") as file:
        file.write(b"y \xff\n")
    imported = _read(data)
    assert len(imported.items) == 15
    twice, undecodable, *left = imported.broken
    assert twice.reason == f"{data}/wav.scp:5: 'r' stands at {data}/wav.scp:1 already"
    assert undecodable.reason == f"{data}/text:24: not UTF-8: invalid start byte"
    for number, (one, (line, kind, words)) in enumerate(zip(left, bad[:-1], strict=True), 16):
        assert (one.id, one.where, one.kind) == (line.split()[0], f"{data}/segments:{number}", kind)
        assert one.reason.startswith(f"{data}/segments:{number}: ")
        assert words in one.reason


def test_commands_are_refused_and_not_run(tmp_path: Path) -> None:
    data = _write(tmp_path / "data", wav_scp=[f"a touch {tmp_path}/ran |"], text=["a go"])
    with pytest.raises(CorpusError, match=r"wav\.scp:1: 'a' is the output of a command.*are not run: write"):
        prepare(str(data), tmp_path / "out")
    assert not (tmp_path / "ran").exists()


def test_a_folder_of_directories_has_a_split_for_each(tmp_path: Path) -> None:
    for number, name in enumerate(("train_si284", "train_si84", "dev_dt_05", "test_eval92", "test")):
        path = write_audio(tmp_path / "wav" / f"{name}.wav", 1.0, seed=number)
        _write(tmp_path / "data" / name, wav_scp=[f"{name} {path}"], text=[f"{name} go"])
    (tmp_path / "data" / "lang").mkdir()
    imported = _read(tmp_path / "data")
    assert {item.id: item.split for item in imported.items} == {
        "train_si284": "train",
        "train_si84": "train",
        "dev_dt_05": "dev",
        "test_eval92": "test_eval92",
        "test": "test",
    }


def test_relative_paths_are_looked_for_where_kaldi_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the working folder, else in the directory itself, else in the folders above it."""
    for folder in ("recipe/wavs", "recipe/data/train/wavs", "elsewhere/wavs"):
        write_audio(tmp_path / folder / f"{folder.split('/')[-2]}.wav", 1.0)
    names = ("recipe", "train", "elsewhere")
    data = _write(
        tmp_path / "recipe" / "data" / "train",
        wav_scp=[f"{name} wavs/{name}.wav" for name in names],
        text=[f"{name} go" for name in names],
    )
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = {item.id: item.audio.relative_to(tmp_path.resolve()) for item in _read(data).items}
    assert found == {
        "recipe": Path("recipe/wavs/recipe.wav"),
        "train": Path("recipe/data/train/wavs/train.wav"),
        "elsewhere": Path("elsewhere/wavs/elsewhere.wav"),
    }


def test_a_directory_without_text_says_so(tmp_path: Path) -> None:
    data = _write(tmp_path / "data", wav_scp=["a a.wav"])
    with pytest.raises(CorpusError, match=r"data/text: cannot be read: No such file"):
        _read(data)
