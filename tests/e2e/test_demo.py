"""``hocket demo``, and what every command has in common."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import STEPS, Hocket


def test_the_whole_path(hocket: Hocket, corpus: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = hocket("demo", "--corpus", corpus, "--recipe", recipe, "--out", out, "--json")
    assert done.status == 0, done.err
    answer = done.answer()
    assert (answer["split"], answer["num_heard_before"], answer["workers"]) == ("test", 0, 2)
    assert answer["num_speakers"] > 0
    assert answer["summary"]["steps"] == STEPS
    assert answer["score"]["num_utterances"] == answer["recognition"]["num_utterances"]
    summary = json.loads((out / "run" / "summary.json").read_text())
    assert summary["wer"] == answer["score"]["wer"]
    assert hocket("info", out / "run", "--json").answer()["wer"] == summary["wer"]
    hocket("demo", "--out", out).refused(1, "it is there already")


@pytest.mark.parametrize("verb", ["prepare", "train", "recognize", "score", "demo", "info"])
def test_every_verb_explains_itself(hocket: Hocket, verb: str) -> None:
    done = hocket(verb, "--help")
    assert done.status == 0
    assert "--json" in done.out


def test_no_verb_and_an_unknown_one(hocket: Hocket) -> None:
    assert hocket().status == 2
    hocket("recognise").refused(2, "recognise")
    assert hocket("--version").out.startswith("hocket ")
