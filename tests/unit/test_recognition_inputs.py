"""From what the user named to an ordered list of utterances."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import audio, manifest
from hocket.corpus.index import Row, Utterance
from hocket.corpus.index import write as write_index
from hocket.recognition.inputs import collect, listed
from hocket.recognition.items import Item
from hocket.recognition.plan import Plan, make_plan
from hocket.recognition.survey import survey


def plan_of(items: Iterable[Item]) -> Plan:
    return make_plan(survey(items, 3600.0), 60.0)


def wav(path: Path, seconds: float = 0.5, rate: int = 16_000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(len(path.name)).normal(0, 0.1, (round(seconds * rate), channels))
    soundfile.write(path, samples, rate)
    return path


def test_files_and_folders_keep_the_order_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f/b.wav", "f/a/z.FLAC", "f/notes.txt", "f/.hidden.wav", "f/.cache/x.wav", "z.wav"):
        wav(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("no audio")
    assert [item.id for item in collect(["z.wav", "f"])] == ["z.wav", "f/a/z.FLAC", "f/b.wav"]


def test_a_repeated_input_gets_an_id_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wav(Path("a.wav"))
    rows = [{"id": "a.wav#2", "audio": "a.wav"}, {"id": "a.wav", "audio": "a.wav"}]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ids = [item.id for item in collect(["a.wav", "a.wav", "t.jsonl", "a.wav"])]
    assert ids == ["a.wav", "a.wav#3", "a.wav#2", "a.wav#4", "a.wav#5"]


def test_tables_in_their_three_shapes(tmp_path: Path) -> None:
    wav(tmp_path / "audio" / "a.wav", seconds=2.0, rate=8000, channels=2)
    row = {"id": "x", "audio": "audio/a.wav", "text": "one two", "speaker": "s", "duration": 9.0}
    part = {"audio": "audio/a.wav", "start": 0.5, "duration": 0.25, "channel": 1}
    (tmp_path / "t.jsonl").write_text(json.dumps(row) + "\n\n" + json.dumps(part) + "\n")
    (tmp_path / "t.csv").write_text(
        "id,audio,text,speaker,duration,start,channel\n"
        "x,audio/a.wav,one two,s,9.0,,\n"
        ",audio/a.wav,,,0.25,0.5,1\n"
    )
    (tmp_path / "t.tsv").write_text((tmp_path / "t.csv").read_text().replace(",", "\t"))
    for name in ("t.jsonl", "t.csv", "t.tsv"):
        plan = plan_of(collect([str(tmp_path / name)]))
        whole, piece = plan.items
        assert (whole.id, whole.ref, whole.speaker) == ("x", "one two", "s")
        assert whole.audio == tmp_path / "audio/a.wav"
        assert (piece.id, piece.ref or None, piece.channel) == ("audio/a-0.5", None, 1)
        assert (piece.start, piece.num) == (4000, 2000)
        assert plan.num_samples.tolist() == [32_000, 4_000], "the file is measured, a claim is not believed"


def test_a_broken_line_is_listed_with_file_and_line(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    table = tmp_path / "t.jsonl"
    lines = [
        '{"audio": "a.wav"',
        '{"text": "x"}',
        "[1]",
        '{"audio": "a.wav", "start": "soon", "duration": 1}',
    ]
    table.write_text("\n".join([*lines, '{"id": "good", "audio": "a.wav"}']))
    items = collect([str(table)])
    assert [item.problem is None for item in items] == [False, False, False, False, True]
    words = ["not JSON", "audio is None", "JSON object", "soon"]
    for number, (item, word) in enumerate(zip(list(items)[:4], words, strict=True), 1):
        assert item.problem is not None
        assert item.problem.startswith(f"{table}:{number}: ") and word in item.problem
    assert sorted(plan_of(items).unreadable) == [0, 1, 2, 3]


def test_a_table_without_an_audio_column_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path,text\na.wav,x\n")
    with pytest.raises(CorpusError, match=r"t\.csv:1: no column 'audio'"):
        collect([str(tmp_path / "t.csv")])


def test_lhotse_manifests(tmp_path: Path) -> None:
    path = wav(tmp_path / "a.wav", seconds=1.0, rate=8000)
    cut = manifest.Cut("c1", path, 8000, 1, 8000, None, 2000, 4000, "some words", "ann")
    for name in ("cuts.jsonl.gz", "cuts.jsonl"):
        manifest.write(tmp_path / name, [cut])
        (item,) = collect([str(tmp_path / name)])
        assert (item.id, item.ref, item.speaker, item.start, item.num) == (
            "c1",
            "some words",
            "ann",
            2000,
            4000,
        )
        assert plan_of([item]).num_samples.tolist() == [8000]
    wav(path, seconds=1.0, rate=11_025)
    assert "11025 Hz, where its manifest says 8000 Hz" in plan_of([item]).unreadable[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.wav", "gone.wav: no such"),
        ("empty", "empty: no audio"),
        ("x.doc", "neither"),
        ("t.jsonl", "nothing"),
    ],
)
def test_an_input_that_is_nothing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("x.doc").write_text("")
    Path("t.jsonl").write_text("\n")
    with pytest.raises(UsageError, match=words):
        collect([name])


def test_no_input_at_all() -> None:
    with pytest.raises(UsageError, match="nothing to recognise"):
        collect([])


def test_a_prepared_corpus_by_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = wav(tmp_path / "corpus" / "audio" / "a.wav", seconds=1.0, rate=8000)
    for split, text in (("test", "one two"), ("dev", "three")):
        utterance = Utterance(f"{split}-1", Path("audio/a.wav"), None, 0, 8000, 8000, text, "ann")
        write_index(tmp_path / "corpus", split, [Row(utterance, 16_000, [1, 2], 7)], 8, "tokens")
    Path("corpus/corpus.json").write_text("{}")
    (item,) = collect(["corpus"])
    assert (item.id, item.ref, item.speaker, item.num_samples_16k) == ("test-1", "one two", "ann", 16_000)
    assert item.audio.samefile(path)
    assert [item.id for item in collect(["corpus:dev", "corpus:test"])] == ["dev-1", "test-1"]
    with pytest.raises(UsageError, match="no split 'gone'; it has dev, test"):
        collect(["corpus:gone"])
    with pytest.raises(UsageError, match="audio:test: no such file or folder"):
        collect(["corpus/audio:test"])


def test_patterns_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.wav", "a/b/2.wav", "odd [1].wav", "two\nlines.wav"):
        wav(tmp_path / name)
    assert [item.id for item in collect(["a/**/*.wav"])] == ["a/1.wav", "a/b/2.wav"]
    assert [item.id for item in collect(["odd [1].wav"])] == ["odd [1].wav"], "a file before a pattern"
    with pytest.raises(UsageError, match=r"\*\.flac: no file matches"):
        collect(["*.flac"])
    assert listed(io.BytesIO(b"a/1.wav\ngone.wav\n\n")) == ["a/1.wav", "gone.wav"]
    names = listed(io.BytesIO(b"two\nlines.wav\0gone.wav\0"), null=True)
    assert names == ["two\nlines.wav", "gone.wav"]
    first, second = collect(names, lenient=True)
    assert (first.id, first.problem) == ("two\nlines.wav", None)
    assert second.problem == "gone.wav: no such file or folder"
    with pytest.raises(UsageError, match="empty"):
        listed(io.BytesIO(b"\n"))


def test_tar_shards_are_read_in_place(tmp_path: Path) -> None:
    flac = wav(tmp_path / "x.flac", seconds=1.0, rate=8000)
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        tar.add(flac, "d/1.flac")
        for name, data in (("d/1.txt", b"one two\n"), ("readme.txt", b"no label"), ("d/2.wav", b"no audio")):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.add(flac, "d/3.flac")
    items = collect([str(tmp_path / "s.tar")])
    shard = str(tmp_path / "s.tar")
    assert [item.id for item in items] == [f"{shard}/d/{name}" for name in ("1.flac", "2.wav", "3.flac")]
    assert [item.ref for item in items] == ["one two", None, None]
    plan = plan_of(items)
    assert plan.num_samples.tolist() == [16_000, 0, 16_000]
    assert "not audio" in plan.unreadable[1]
    same = audio.read(flac)
    for position in (0, 2):
        item = items[position]
        assert np.array_equal(audio.read(item.audio, member=item.member), same)
    (tmp_path / "s.tar").write_bytes((tmp_path / "s.tar").read_bytes()[:1500])
    with pytest.raises(UsageError, match=r"s\.tar: cannot read the tar"):
        collect([str(tmp_path / "s.tar")])


def test_a_link_to_nowhere_and_a_pipe_are_listed_not_waited_for(tmp_path: Path) -> None:
    wav(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to("nowhere.wav")
    os.mkfifo(tmp_path / "c.wav")
    plan = plan_of(collect([str(tmp_path)]))
    assert plan.num_samples.tolist() == [8000, 0, 0]
    assert "no such file" in plan.unreadable[1] and "not a file" in plan.unreadable[2]
