"""``hocket recognize`` and ``hocket score`` as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Done, Hocket, Trained, environment


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def recognised(
    hocket: Hocket, corpus: Path, trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Done]:
    hyps = tmp_path_factory.mktemp("hyps") / "hyps.jsonl"
    words = ["recognize", trained.folder, f"{corpus}:train", "--batch-seconds", "10", "--out", hyps]
    done = hocket(*words, "--workers", "2", "--json")
    assert done.status == 0, done.err
    return hyps, done


def test_every_utterance_once_with_its_reference(recognised: tuple[Path, Done], corpus: Path) -> None:
    hyps, done = recognised
    found = lines(hyps)
    wanted = json.loads((corpus / "corpus.json").read_text())["splits"]["train"]["utterances"]
    assert len({hyp["id"] for hyp in found}) == len(found) == wanted
    assert all({"id", "text", "ref", "duration"} <= hyp.keys() for hyp in found)
    answer = done.answer()
    assert (answer["num_utterances"], answer["num_failed"], answer["workers"]) == (wanted, 0, 2)


def test_one_worker_writes_the_same_file(
    hocket: Hocket, recognised: tuple[Path, Done], corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    alone = tmp_path / "hyps.jsonl"
    words = ["recognize", trained.folder, f"{corpus}:train", "--batch-seconds", "10", "--out", alone]
    assert hocket(*words).status == 0
    assert alone.read_bytes() == recognised[0].read_bytes()


def test_a_bad_file_is_listed_and_the_others_are_answered(
    hocket: Hocket, corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "audio"
    folder.mkdir()
    for path in sorted((corpus / "audio" / "test").iterdir())[:3]:
        shutil.copy(path, folder)
    (folder / "broken.wav").write_bytes(b"RIFF")
    hyps = tmp_path / "hyps.jsonl"
    done = hocket("recognize", trained.folder, folder, "--out", hyps, "--json")
    assert done.status == 1
    assert "Traceback" not in done.err
    answer = done.answer()
    assert (answer["num_utterances"], answer["num_failed"]) == (3, 1)
    assert len(lines(hyps)) == 3
    (failed,) = lines(Path(answer["failed"]))
    assert failed["id"].endswith("broken.wav")
    hocket("score", hyps).refused(1, "nothing to score", "reference")


def test_a_list_on_standard_input_several_outputs_and_going_on(
    corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    """``find -print0`` into it, with a name that leads nowhere; then the same job as subtitles."""
    audio = sorted((corpus / "audio" / "test").iterdir())[:3]
    names = b"\0".join(str(path).encode() for path in [*audio, Path("gone.wav")])
    out = ["--out", str(tmp_path / "h.jsonl"), "--out", str(tmp_path / "h.ctm"), "--words"]
    command = [sys.executable, "-m", "hocket", "recognize", str(trained.folder), "-", "-0", *out, "--json"]
    done = subprocess.run(command, input=names, capture_output=True, env=environment(), timeout=240)
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["num_utterances"], answer["num_failed"], answer["num_earlier"]) == (3, 1, 0)
    assert [hyp["id"] for hyp in lines(tmp_path / "h.jsonl")] == [str(path) for path in audio]
    assert "no such file" in lines(tmp_path / "h.failed.jsonl")[0]["reason"]
    command += ["--out", str(tmp_path / "s" / "*.vtt")]
    done = subprocess.run(command, input=names, capture_output=True, env=environment(), timeout=240)
    assert json.loads(done.stdout)["num_earlier"] == 3, "nothing is recognised again"
    assert len(list((tmp_path / "s").rglob("*.vtt"))) == 3


def test_scores(hocket_here: Hocket, recognised: tuple[Path, Done], tmp_path: Path) -> None:
    done = hocket_here("score", recognised[0], "--json")
    assert done.status == 0
    answer = done.answer()
    errors = answer["insertions"] + answer["deletions"] + answer["substitutions"]
    assert answer["wer"] == pytest.approx(errors / answer["num_words"])
    assert answer["wer_low"] <= answer["wer"] <= answer["wer_high"]
    assert "WER" in hocket_here("score", recognised[0], "--by", "speaker").out


def test_scores_of_normalised_texts(hocket_here: Hocket, tmp_path: Path) -> None:
    hyps = tmp_path / "hyps.jsonl"
    hyps.write_text('{"id": "a", "text": "go left", "ref": "Go, left!"}\n')
    assert hocket_here("score", hyps, "--json").answer()["wer"] == 1.0
    answer = hocket_here("score", hyps, "--normalise", "basic", "--json").answer()
    assert (answer["wer"], answer["normalise"]) == (0.0, "basic")
    assert "basic normalisation" in hocket_here("score", hyps, "--normalise", "basic").out
    hocket_here("score", hyps, "--normalise", "whisper").refused(2, "whisper")


def test_wrong_usage(hocket_here: Hocket, trained: Trained, tmp_path: Path) -> None:
    out = tmp_path / "hyps.jsonl"
    hocket_here("recognize", trained.folder, tmp_path / "none.wav", "--out", out).refused(2, "none.wav")
    hocket_here("recognize", trained.folder, tmp_path).refused(2, "--out")
    hocket_here("recognize", tmp_path, tmp_path, "--out", out).refused(1, "model")
    hocket_here("recognize", trained.folder, tmp_path, "--out", out, "--workers", "some").refused(2, "some")
    hocket_here("score", tmp_path / "none.jsonl").refused(2, "none.jsonl")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"id": "a", "text": "b"}\n{nope\n')
    hocket_here("score", broken).refused(1, f"{broken}:2", "JSON")
    assert not out.exists()
