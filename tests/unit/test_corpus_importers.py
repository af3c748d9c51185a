"""Sources of every format become items; what is wrong with a line is said with file and line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from corpora import spoken_table, write_table
from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import importers, manifest
from hocket.corpus.importers.base import ImportContext, Imported
from hocket.corpus.importers.espeak import Request, speak
from hocket.corpus.importers.synthetic import Options, parse_options, voices_by_part
from hocket.corpus.prepare import PrepareSettings, prepare


def _read(source: Path | str, format: str | None = None) -> Imported:
    context = ImportContext(Path("unused"), 1, lambda stage, done, total: None)
    return importers.find(str(source), format).read(str(source), context)


def test_json_lines(tmp_path: Path) -> None:
    rows = [
        {"audio": "a/x.wav", "text": "go", "duration": 1.5, "age": 6},
        {"id": 17, "audio": "/b.wav", "text": "", "speaker": 3, "split": "test", "channel": 1},
        {"audio": "a/x.wav", "text": "é", "start": 2.5, "duration": 0.5},
    ]
    imported = _read(write_table(tmp_path / "mine", rows))
    assert imported.name == "mine"
    one, two, three = imported.items
    assert (one.id, one.audio, one.text) == ("a/x", tmp_path.resolve() / "mine" / "a" / "x.wav", "go")
    assert (one.speaker, one.split, one.channel, one.start_seconds) == (None, None, None, None)
    assert (two.id, two.audio, two.speaker, two.split, two.channel) == ("17", Path("/b.wav"), "3", "test", 1)
    assert (three.id, three.start_seconds, three.duration_seconds) == ("a/x-2.5", 2.5, 0.5)
    assert three.where.endswith("manifest.jsonl:3")


@pytest.mark.parametrize(("name", "comma"), [("t.csv", ","), ("t.csv", ";"), ("t.tsv", "\t")])
def test_csv_and_tsv(tmp_path: Path, name: str, comma: str) -> None:
    path = tmp_path / name
    lines = [["text", "audio", "speaker", "id"], ["go", "x.wav", "", "u1"], ['"a ""b"""', "y.wav", "s", ""]]
    path.write_text("\ufeff" + "\n".join(comma.join(line) for line in lines) + "\n", encoding="utf-8")
    imported = _read(path)
    assert [(item.id, item.text, item.speaker) for item in imported.items] == [
        ("u1", "go", None),
        ("y", 'a "b"', "s"),
    ]
    assert imported.name == "t"
    assert imported.items[1].where == f"{path}:3"


def test_broken_lines_are_left_out_with_file_and_line(tmp_path: Path) -> None:
    good = [{"audio": f"{number}.wav", "text": "go"} for number in range(9)]
    bad = [
        ("{torn", "no JSON"),
        ("[1]", "not a JSON object"),
        ('{"text": "go"}', "no audio path"),
        ('{"audio": "x.wav"}', "no text"),
        ('{"audio": "x.wav", "text": 5}', "text is 5"),
        ('{"audio": "x.wav", "text": "a", "duration": "long"}', "duration is 'long'"),
        ('{"audio": "x.wav", "text": "a", "start": 1}', "needs a duration"),
    ]
    path = write_table(tmp_path, [*good, *(line for line, _ in bad)])
    imported = _read(path)
    assert len(imported.items) == 9
    for number, (left, (_, reason)) in enumerate(zip(imported.broken, bad, strict=True), 10):
        assert left.where == f"{path}:{number}"
        assert left.reason.startswith(f"{path}:{number}: ")
        assert reason in left.reason


def test_broken_csv_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("audio,text\na.wav,go\nb.wav\nc.wav,a,b,c\nd.wav,stop\ne.wav,go\n")
    imported = _read(path)
    assert [item.id for item in imported.items] == ["a", "d", "e"]
    assert [left.where for left in imported.broken] == [f"{path}:3", f"{path}:4"]
    path.write_text("file,text\na.wav,go\n")
    with pytest.raises(CorpusError, match=r"t\.csv:1: no column audio; it has file, text"):
        _read(path)


def test_a_table_that_is_mostly_broken_is_an_error(tmp_path: Path) -> None:
    path = write_table(tmp_path, ["{torn"] * 3 + [{"audio": "a.wav", "text": "go"}])
    with pytest.raises(CorpusError, match=r"3 of 4 lines(.|\n)*manifest\.jsonl:1: no JSON"):
        _read(path)


def test_the_format_is_told_from_the_source(tmp_path: Path) -> None:
    spoken_table(tmp_path / "source")
    prepare(str(tmp_path / "source"), tmp_path / "out", settings=PrepareSettings(dev_fraction=0.2))
    cuts = tmp_path / "out" / "train" / manifest.FILE
    found = {
        tmp_path / "source": "table",
        tmp_path / "source" / "manifest.jsonl": "table",
        cuts: "cuts",
        "synthetic:hours=1": "synthetic",
        "synthetic": "synthetic",
    }
    for source, name in found.items():
        assert importers.find(str(source), None) is importers.IMPORTERS[name]
    assert importers.find("anything", "cuts") is importers.IMPORTERS["cuts"]
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        importers.find("nowhere", None)
    with pytest.raises(CorpusError, match="not a corpus that is recognised"):
        importers.find(str(tmp_path), None)
    with pytest.raises(UsageError, match="Did you mean 'table'"):
        importers.find("x", "tabel")


def test_cuts_of_a_prepared_corpus_are_a_source(tmp_path: Path) -> None:
    spoken_table(tmp_path / "source")
    first = prepare(str(tmp_path / "source"), tmp_path / "out", settings=PrepareSettings(dev_fraction=0))
    again = prepare(
        str(tmp_path / "out" / "train" / manifest.FILE),
        tmp_path / "b",
        settings=PrepareSettings(dev_fraction=0),
    )
    assert again.fingerprint == first.fingerprint
    both = _read(tmp_path / "out")
    assert {item.split for item in both.items} == {"train"}
    assert both.items[0].speaker is not None


def test_options_of_the_synthetic_corpus() -> None:
    assert parse_options("synthetic") == Options()
    assert parse_options("synthetic:hours=0.5,seed=3") == Options(hours=0.5, seed=3)
    assert parse_options("synthetic:utterances=60").num_utterances == 60
    for source, words in (
        ("synthetic:hour=1", "Did you mean 'hours'"),
        ("synthetic:hours=x", "not a number"),
        ("synthetic:hours=1,utterances=60", "not both"),
        ("synthetic:utterances=3", "20 or more"),
    ):
        with pytest.raises(UsageError, match=words):
            parse_options(source)


def test_voices_of_dev_and_test_are_not_in_training() -> None:
    for seed in range(20):
        parts = voices_by_part(seed)
        everyone = [voice for voices in parts.values() for voice in voices]
        assert len(everyone) == len(set(everyone))
        assert len(parts["train"]) > len(parts["test"]) > len(parts["dev"]) > 0
    assert voices_by_part(1) != voices_by_part(2)


def test_what_is_spoken_depends_on_its_request_alone() -> None:
    pytest.importorskip("espeakng_loader")
    # Voices with noise, echo and chorus: espeak-ng carries their state from one utterance to the next.
    requests = [
        Request("go left three", f"en-us+{voice}", 120, 50, 50, 90)
        for voice in ("whisperf", "f5", "Alicia", "victor", "iven")
    ]
    spoken = [samples for _, samples in speak(requests)]
    backwards = [samples for _, samples in speak(requests[::-1])][::-1]
    for one, other in zip(spoken, backwards, strict=True):
        np.testing.assert_array_equal(one, other)
        assert len(one) > 10_000
        assert np.abs(one.astype(int)).max() > 500


def test_a_voice_that_is_none_is_said() -> None:
    pytest.importorskip("espeakng_loader")
    with pytest.raises(CorpusError, match=r"no voice en-us\+klingon"):
        list(speak([Request("go", "en-us+klingon", 120, 50, 50, 90)]))


def test_the_synthetic_corpus_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    one = prepare("synthetic:utterances=40,seed=7", tmp_path / "one")
    other = prepare("synthetic:utterances=40,seed=7", tmp_path / "other", settings=PrepareSettings(seed=1))
    different = prepare("synthetic:utterances=40,seed=8", tmp_path / "different")
    assert one.fingerprint == other.fingerprint != different.fingerprint
    assert sum(split.utterances for split in one.splits.values()) == 40
    assert not one.left_out
    recordings = sorted((tmp_path / "one" / "audio").rglob("*.flac"))
    assert len(recordings) == 40
    for path in recordings:
        again = tmp_path / "other" / path.relative_to(tmp_path / "one")
        assert path.read_bytes() == again.read_bytes()
    assert soundfile.info(recordings[0]).samplerate == 16_000


def test_no_lhotse_in_the_way_of_a_worker() -> None:
    code = "import sys, hocket.corpus.loading, hocket.corpus.prepare; sys.exit('lhotse' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], check=False, env={"PYTHONPATH": ":".join(sys.path)}
        ).returncode
        == 0
    )
