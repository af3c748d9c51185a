"""Beam search with a language model, exported models, confidences and comparison, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Hocket, Trained


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_language_model_from_a_table_is_searched_with(
    hocket: Hocket, corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    """Times, confidences and an N-best list come with it."""
    pytest.importorskip("flashlight.lib.text.decoder")
    texts = tmp_path / "texts.jsonl"
    rows = [("train", "the first one"), ("train", "the second one"), ("test", "unseen words")]
    texts.write_text("".join(json.dumps({"split": split, "text": text}) + "\n" for split, text in rows))
    built = hocket(
        "lm", "build", texts, "--split", "train", "--order", "2", "--out", tmp_path / "lm", "--json"
    )
    assert built.status == 0, built.err
    answer = built.answer()
    assert (answer["num_sentences"], answer["num_words"], answer["num_ngrams"]) == (2, 6, [7, 6])
    assert "unseen" not in (tmp_path / "lm").read_text()
    hyps = tmp_path / "hyps.jsonl"
    options = ("--beam", "4", "--lm", tmp_path / "lm", "--nbest", "3", "--words", "--word-score", "3")
    done = hocket("recognize", trained.folder, f"{corpus}:dev", "--out", hyps, *options)
    assert done.status == 0, done.err
    for hyp in lines(hyps):
        assert [word["text"] for word in hyp.get("words", [])] == hyp["text"].split()
        assert all(
            0 <= word["start"] < word["end"] <= hyp["duration"] + 0.04 for word in hyp.get("words", [])
        )
        assert hyp["alternatives"][0]["text"] == hyp["text"] and len(hyp["alternatives"]) <= 3


def test_an_exported_model_answers_as_the_run_does(
    hocket: Hocket, corpus: Path, trained: Trained, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    out = tmp_path / "onnx"
    done = hocket(
        "export", trained.folder, out, "--format", "onnx", "--int8", "--check", f"{corpus}:dev", "--json"
    )
    assert done.status == 0, done.err
    run, exact, rounded = done.answer()["costs"]
    assert run["num_differing"] == exact["num_differing"] == 0 and run["wer"] == exact["wer"]
    assert rounded["num_utterances"] == run["num_utterances"] and rounded["wer"] is not None


def test_searches_that_cannot_be_are_refused(hocket_here: Hocket, trained: Trained, tmp_path: Path) -> None:
    for options, said in (
        (("--nbest", "3"), "need a beam"),
        (("--beam", "4", "--lm", tmp_path / "none"), "no such file"),
        (("--precision", "int8"), "hocket export"),
    ):
        done = hocket_here("recognize", trained.folder, tmp_path, "--out", tmp_path / "h.jsonl", *options)
        assert done.status == 2 and said in done.err and "Traceback" not in done.err


def test_a_scored_run_gives_confidences_words_and_speakers(hocket_here: Hocket, tmp_path: Path) -> None:
    word = {"start": 0.0, "end": 0.1}
    rows = [
        {
            "id": f"u{number}",
            "text": "yes no",
            "ref": "yes so" if number % 3 else "yes no",
            "speaker": "ann" if number % 2 else "ben",
            "words": [{"text": "yes", "confidence": 0.9, **word}, {"text": "no", "confidence": 0.8, **word}],
        }
        for number in range(12)
    ]
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text("".join(json.dumps(row) + "\n" for row in rows))
    b.write_text("".join(json.dumps({**row, "text": row["ref"], "words": []}) + "\n" for row in rows))
    picture, fitted = tmp_path / "r.svg", tmp_path / "c.json"
    options = ("--words", "3", "--speakers", "--reliability", picture, "--calibrate", fitted)
    done = hocket_here("score", a, *options, "--json")
    assert done.status == 0, done.err
    answer = done.answer()
    assert answer["breakdown"]["words"][0]["word"] == "so"
    assert {entry["speaker"] for entry in answer["breakdown"]["speakers"]} == {"ann", "ben"}
    assert answer["confidence"]["after"]["cross_entropy"] < answer["confidence"]["before"]["cross_entropy"]
    assert picture.read_text().startswith("<svg") and json.loads(fitted.read_text())["scale"] > 0
    compared = hocket_here("compare", a, b, "--json").answer()
    assert (compared["wer_a"], compared["wer_b"], compared["num_better_b"]) == (8 / 24, 0.0, 8)
    for words in (("score", a, *options), ("compare", a, b)):
        shown = hocket_here(*words)
        assert shown.status == 0 and "so" in shown.out
