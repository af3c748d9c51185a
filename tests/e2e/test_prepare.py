"""``hocket prepare`` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import Hocket


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight good utterances (one at 8 kHz, one stereo), and four bad ones."""
    noise = np.random.default_rng(0).normal(0, 0.1, (16_000, 2)).astype(np.float32)
    rows: list[str] = []
    for number in range(8):
        rate, samples = 16_000, noise[:, 0]
        if number == 0:
            rate, samples = 8_000, noise[:8_000, 0]
        if number == 1:
            samples = noise
        soundfile.write(tmp_path / f"{number}.wav", samples, rate)
        split = "test" if number > 5 else "train"
        rows.append(json.dumps({"audio": f"{number}.wav", "text": "go left", "split": split}))
    (tmp_path / "empty.wav").touch()
    (tmp_path / "torn.wav").write_bytes((tmp_path / "2.wav").read_bytes()[:1000])
    rows += [json.dumps({"audio": f"{name}.wav", "text": "go"}) for name in ("empty", "torn", "missing")]
    rows.append("{this is no JSON")
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_bad_lines_are_listed_and_stop_nothing(hocket: Hocket, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    done = hocket("prepare", table, out, "--dev", "0", "--json")
    assert done.status == 0, done.err
    answer = done.answer()
    assert answer["splits"]["train"]["utterances"] == 6
    assert answer["splits"]["test"]["utterances"] == 2
    assert sum(answer["left_out"].values()) == 4
    listed = [json.loads(line) for line in (out / "left_out.jsonl").read_text().splitlines()]
    reasons = " ".join(line["reason"] for line in listed)
    for wanted in ("empty.wav", "torn.wav", "missing.wav", f"{table}:12"):
        assert wanted in reasons
    notes = " ".join(answer["notes"])
    assert "8 kHz" in notes
    assert "stereo" in notes


def test_the_table_says_what_was_left_out(hocket: Hocket, table: Path, tmp_path: Path) -> None:
    done = hocket("prepare", table, tmp_path / "corpus", "--dev", "0")
    assert done.status == 0
    for wanted in ("train", "test", "left out", "left_out.jsonl", "8 kHz"):
        assert wanted in done.out


def test_an_unknown_format_names_the_nearest(hocket: Hocket, table: Path, tmp_path: Path) -> None:
    hocket("prepare", table, tmp_path / "c", "--format", "tabel").refused(2, "tabel", "'table'")


def test_a_source_that_is_nothing(hocket: Hocket, tmp_path: Path) -> None:
    hocket("prepare", tmp_path / "nowhere", tmp_path / "c").refused(1, "nowhere")
    assert not (tmp_path / "c").exists()


def test_the_same_source_gives_the_same_corpus(hocket: Hocket, corpus: Path, tmp_path: Path) -> None:
    done = hocket("prepare", "synthetic:utterances=60", tmp_path / "again", "--json")
    assert done.answer()["fingerprint"] == json.loads((corpus / "corpus.json").read_text())["fingerprint"]


def test_shards_are_made_read_and_measured(hocket: Hocket, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus"
    done = hocket(
        "prepare", table, out, "--dev", "0", "--shards", "--shard-mb", "0.1", "--workers", "2", "--json"
    )
    assert done.status == 0, done.err
    made = done.answer()["shards"]
    for split in ("train", "test"):
        names = [path.name for path in (out / split / "shar").iterdir()]
        assert len(names) == 2 * made[split]["num_shards"] >= 2
    done = hocket("bench", "storage", out, "--seconds", "20", "--json")
    assert done.status == 0, done.err
    told = done.answer()
    for name in ("cold", "warm"):
        assert told[name]["utterances"] == 6
        assert told[name]["audio_per_second"] > 0
    assert told["cold"]["fetched_bytes"] > 0
    hocket("bench", "storage", out, "--split", "dev").refused(1, "no split 'dev'; it has test, train")
