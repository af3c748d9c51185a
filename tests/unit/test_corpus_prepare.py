"""Preparing a corpus: everything bad is found, listed and counted, and nothing half is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from corpora import noise, spoken_table, write_audio, write_table
from hocket.core.errors import CorpusError
from hocket.corpus import prepare as prepare_module
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.report import PrepareReport, read_corpus

NO_DEV = PrepareSettings(dev_fraction=0)


def _left_out(folder: Path) -> dict[str | None, dict[str, Any]]:
    lines = (folder / "left_out.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["id"]: entry for entry in map(json.loads, lines)}


def _texts(folder: Path, split: str) -> dict[str, str]:
    index = CorpusIndex.open(folder, split)
    return {index.id(row): index.utterance(row).text for row in range(len(index))}


@pytest.fixture
def mixed(tmp_path: Path) -> PrepareReport:
    """Good utterances and one of every bad kind."""
    source = tmp_path / "source"
    for number in range(20):
        write_audio(source / f"{number}.wav", 1.5, seed=number)
    write_audio(source / "short.wav", 0.05)
    write_audio(source / "long.wav", 5.0)
    write_audio(source / "slow.wav", 1.5, rate=8_000)
    write_audio(source / "stereo.wav", 1.5, channels=2)
    whole = write_audio(source / "whole.flac", 1.5).read_bytes()
    (source / "torn.flac").write_bytes(whole[: len(whole) // 2])
    (source / "empty.wav").touch()
    x = noise(1.5)
    x[100] = float("nan")
    soundfile.write(source / "nan.wav", x, 16_000, subtype="FLOAT")
    rows: list[dict[str, Any] | str] = [
        {"id": f"u{number}", "audio": f"{number}.wav", "text": "go left"} for number in range(20)
    ]
    rows += [
        {"id": name, "audio": f"{name}.wav", "text": "go"}
        for name in ("short", "long", "slow", "stereo", "empty", "nan", "missing")
    ]
    rows += [
        {"id": "torn", "audio": "torn.flac", "text": "go"},
        {"id": "silent", "audio": "0.wav", "text": "  "},
        {"id": "wordy", "audio": "1.wav", "text": "left " * 8},
        {"id": "outside", "audio": "0.wav", "text": "go", "start": 1.0, "duration": 2.0},
        {"id": "claims", "audio": "2.wav", "text": "go", "duration": 9.0},
        "{this is no JSON",
    ]
    table = write_table(source, rows)
    out = tmp_path / "out"
    report = prepare(str(table), out, settings=PrepareSettings(dev_fraction=0, max_seconds=4.0))
    return report


def test_every_bad_utterance_is_listed_with_its_reason(mixed: PrepareReport) -> None:
    left = _left_out(mixed.folder)
    wanted = {
        "short": ("too short", "0.05 s"),
        "long": ("too long", "5.00 s"),
        "silent": ("no text", "empty"),
        "wordy": ("more tokens than frames", "39 tokens and 0 repeats need 39 frames"),
        "empty": ("unreadable audio", "empty.wav: the file is empty"),
        "missing": ("unreadable audio", "missing.wav: no such file"),
        "torn": ("unreadable audio", "torn.flac: truncated"),
        "nan": ("unreadable audio", "NaN"),
        "outside": ("unreadable audio", "samples 16000 to 48000 were asked for"),
        None: ("broken line", "manifest.jsonl:33: no JSON"),
    }
    assert set(left) == set(wanted)
    for name, (kind, words) in wanted.items():
        assert left[name]["kind"] == kind
        assert words in left[name]["reason"]
    assert mixed.left_out == {
        "broken line": 1,
        "more tokens than frames": 1,
        "no text": 1,
        "too long": 1,
        "too short": 1,
        "unreadable audio": 5,
    }
    kept = _texts(mixed.folder, "train")
    assert set(kept) == {f"u{number}" for number in range(20)} | {"slow", "stereo", "claims"}


def test_conversions_and_doubts_are_said(mixed: PrepareReport) -> None:
    notes = "\n".join(mixed.notes)
    assert "1 utterances at 8 kHz are resampled" in notes
    assert "1 stereo utterances are averaged" in notes
    assert (
        "1 utterances are not as long as their source says, such as claims: 9 s said, 1.50 s found" in notes
    )
    index = CorpusIndex.open(mixed.folder, "train")
    rows = {index.id(row): row for row in range(len(index))}
    assert index.num_samples[rows["slow"]] == 24_000
    assert read_corpus(mixed.folder)["splits"]["train"]["utterances"] == 23


def test_headers_alone_do_not_find_all_that_decoding_does(tmp_path: Path) -> None:
    x = noise(1.5)
    x[100] = float("nan")
    table = spoken_table(tmp_path / "source")
    soundfile.write(tmp_path / "source" / "audio" / "3.wav", x, 16_000, subtype="FLOAT")
    (tmp_path / "source" / "audio" / "4.wav").unlink()
    quick = prepare(str(table), tmp_path / "quick", settings=PrepareSettings(dev_fraction=0, decode=False))
    full = prepare(str(table), tmp_path / "full", settings=NO_DEV)
    assert quick.left_out == {"unreadable audio": 1}
    assert full.left_out == {"unreadable audio": 2}


def test_an_id_twice_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "source")
    table.write_text(table.read_text() + '{"id": "u2", "audio": "x.wav", "text": "go"}\n')
    with pytest.raises(
        CorpusError, match=r"manifest.jsonl:13: the id 'u2' is also that of .*manifest.jsonl:3"
    ):
        prepare(str(table), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_given_tokens_leave_out_what_they_cannot_write_but_score_it_in_test(tmp_path: Path) -> None:
    first = prepare(str(spoken_table(tmp_path / "a")), tmp_path / "first", settings=NO_DEV)
    rows = []
    for number, (text, split) in enumerate(
        [
            ("go left", "train"),
            ("straße", "train"),
            ("go é", "test"),
            ("stop", "test"),
            ("go é", "validation"),
        ]
    ):
        write_audio(tmp_path / "b" / f"{number}.wav", 1.5, seed=number)
        rows.append({"id": f"v{number}", "audio": f"{number}.wav", "text": text, "split": split})
    settings = PrepareSettings(tokens=str(tmp_path / "first"))
    second = prepare(str(write_table(tmp_path / "b", rows)), tmp_path / "second", settings=settings)
    assert second.tokens["fingerprint"] == first.tokens["fingerprint"]
    assert second.left_out == {"characters without a token": 1}
    assert "'ß' (U+00DF)" in _left_out(tmp_path / "second")["v1"]["reason"]
    assert _texts(tmp_path / "second", "test") == {"v2": "go é", "v3": "stop"}
    assert _texts(tmp_path / "second", "dev") == {"v4": "go é"}
    assert second.splits["test"].out_of_vocabulary == 1
    assert any(
        "test: 1 utterances have characters without a token, 'é' (U+00E9)" in note for note in second.notes
    )
    index = CorpusIndex.open(tmp_path / "second", "test")
    assert index.num_tokens.tolist() == [3, 4]


def test_limits_of_training_do_not_touch_the_test_part(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "source")
    lines = [json.loads(line) for line in table.read_text().splitlines()]
    write_table(
        tmp_path / "source", [row | {"split": "test" if row["id"] == "u11" else "train"} for row in lines]
    )
    report = prepare(str(table), tmp_path / "out", settings=PrepareSettings(dev_fraction=0, max_seconds=1.95))
    assert report.left_out == {"too long": 1}
    assert report.splits["train"].utterances == 10
    assert report.splits["test"].longest == pytest.approx(2.1)


def test_dev_is_held_back_by_speaker_where_there_are_enough(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "many", num=24, speakers=12)
    report = prepare(str(table), tmp_path / "out", settings=PrepareSettings(dev_fraction=0.2))
    dev, train = (CorpusIndex.open(tmp_path / "out", split) for split in ("dev", "train"))
    assert report.splits["dev"].utterances == 6
    assert not set(dev.speakers) & set(train.speakers)
    assert "dev: 6 utterances of 3 speakers held back from training" in report.notes
    few = prepare(
        str(spoken_table(tmp_path / "few")), tmp_path / "few-out", settings=PrepareSettings(dev_fraction=0.2)
    )
    assert few.splits["dev"].utterances == 2
    assert any("3 speakers are too few" in note for note in few.notes)


def test_rows_of_training_are_shuffled_by_the_seed_into_blocks(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "source")
    settings = PrepareSettings(dev_fraction=0, block_size=5)
    first = prepare(str(table), tmp_path / "a", settings=settings)
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[::-1]) + "\n")
    turned = prepare(str(table), tmp_path / "b", settings=settings)
    other = prepare(
        str(table), tmp_path / "c", settings=PrepareSettings(dev_fraction=0, block_size=5, seed=2)
    )
    order = list(_texts(tmp_path / "a", "train"))
    assert order != sorted(order, key=lambda name: int(name[1:]))
    assert order == list(_texts(tmp_path / "b", "train"))
    assert order != list(_texts(tmp_path / "c", "train"))
    assert first.fingerprint == turned.fingerprint != other.fingerprint
    assert CorpusIndex.open(tmp_path / "a", "train").block.tolist() == [0] * 5 + [1] * 5 + [2] * 2


def test_the_fingerprint_does_not_depend_on_where_things_lie(tmp_path: Path) -> None:
    first = prepare(str(spoken_table(tmp_path / "source")), tmp_path / "a", settings=NO_DEV)
    shutil.copytree(tmp_path / "source", tmp_path / "elsewhere" / "source")
    moved = prepare(str(tmp_path / "elsewhere" / "source"), tmp_path / "deep" / "b", settings=NO_DEV)
    assert moved.fingerprint == first.fingerprint
    assert read_corpus(tmp_path / "a") == read_corpus(tmp_path / "deep" / "b")


def test_white_space_and_case_are_normalised(tmp_path: Path) -> None:
    write_audio(tmp_path / "s" / "a.wav", 2.0)
    table = write_table(tmp_path / "s", [{"id": "a", "audio": "a.wav", "text": " Go \t Left\u00a0 "}])
    for case, text in (("keep", "Go Left"), ("lower", "go left"), ("upper", "GO LEFT")):
        prepare(str(table), tmp_path / case, settings=PrepareSettings(dev_fraction=0, case=case))  # type: ignore[arg-type]
        assert _texts(tmp_path / case, "train") == {"a": text}


def test_an_earlier_corpus_is_replaced_and_anything_else_is_not(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "source")
    out = tmp_path / "out"
    prepare(str(table), out, settings=NO_DEV)
    prepare(str(table), out, settings=PrepareSettings(dev_fraction=0.2))
    assert (out / "dev").is_dir()
    with pytest.raises(CorpusError, match="lies in it"):
        prepare(str(table), tmp_path / "source")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "important.txt").write_text("keep me")
    with pytest.raises(CorpusError, match="no prepared corpus"):
        prepare(str(table), tmp_path / "notes")
    assert (tmp_path / "notes" / "important.txt").read_text() == "keep me"
    with pytest.raises(CorpusError, match="lies in it"):
        prepare(str(out / "train" / "cuts.jsonl.gz"), out)


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = spoken_table(tmp_path / "source")
    out = tmp_path / "out"
    before = prepare(str(table), out, settings=NO_DEV)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare_module.manifest, "write", fail)
    with pytest.raises(OSError, match="No space"):
        prepare(str(table), out, settings=PrepareSettings(dev_fraction=0.2))
    assert read_corpus(out)["fingerprint"] == before.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


SLOW = """
import sys, time
from pathlib import Path
from hocket.corpus.prepare import prepare
def wait(stage, done, total):
    print("reached", flush=True)
    time.sleep(60)
prepare(sys.argv[1], Path(sys.argv[2]), progress=wait)
"""


def test_a_killed_preparation_leaves_no_corpus_and_the_next_one_works(tmp_path: Path) -> None:
    table = spoken_table(tmp_path / "source")
    out = tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", SLOW, str(table), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"reached\n"
        with pytest.raises(CorpusError, match="another process is preparing it"):
            prepare(str(table), out)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not out.exists()
    prepare(str(table), out, settings=NO_DEV)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_nothing_to_learn_from_says_why(tmp_path: Path) -> None:
    table = write_table(tmp_path / "s", [{"id": "a", "audio": "a.wav", "text": "go"}])
    with pytest.raises(
        CorpusError, match=r"no training utterance(.|\n)*1 unreadable audio(.|\n)*a\.wav: no such file"
    ):
        prepare(str(table), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_prepared_folder_can_be_moved_with_the_audio_it_made(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    prepare("synthetic:utterances=20", tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    index = CorpusIndex.open(tmp_path / "b", "train")
    assert all(index.utterance(row).audio.is_file() for row in range(len(index)))
