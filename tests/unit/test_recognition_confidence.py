"""Confidences: judged against what was right, and brought nearer to it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hocket.core.errors import CorpusError, UsageError
from hocket.core.transcript import Word
from hocket.decoding import calibration
from hocket.decoding.calibration import Calibration
from hocket.recognition import confidence
from hocket.recognition.hypotheses import Hypothesis
from hocket.recognition.search import read_calibration, read_lines
from hocket.reports import reliability


def overconfident(num: int) -> tuple[list[float], list[bool]]:
    """Words that are right less often than their confidence says: at odds to the power of one half."""
    generator = np.random.default_rng(4)
    true = generator.uniform(0.3, 0.95, num)
    said = (true / (1 - true)) ** 2 / (1 + (true / (1 - true)) ** 2)
    return said.tolist(), (generator.uniform(size=num) < true).tolist()


def test_calibration_finds_the_map_that_confidences_went_through() -> None:
    confidences, correct = overconfident(20_000)
    fitted = calibration.fit(confidences, correct)
    assert (fitted.scale, fitted.offset) == pytest.approx((0.5, 0.0), abs=0.05)
    before = calibration.reliability(confidences, correct)
    after = calibration.reliability([fitted(value) for value in confidences], correct)
    assert before.ece > 0.06 and after.ece < 0.02 and after.cross_entropy < before.cross_entropy
    assert Calibration()(0.7) == pytest.approx(0.7)
    with pytest.raises(CorpusError, match="all words are right"):
        calibration.fit([0.5, 0.6], [True, True])


def test_reliability_counts_words_by_their_confidence() -> None:
    found = calibration.reliability([0.95, 0.99, 1.0, 0.15], [True, True, False, False])
    low, high = found.bins
    assert (low.num_words, low.confidence, low.correct) == (1, 0.15, 0.0)
    assert high.num_words == 3 and high.correct == pytest.approx(2 / 3)
    assert found.ece == pytest.approx((0.15 + 3 * (0.98 - 2 / 3)) / 4)


def hypothesis(id: str, ref: str | None, *words: tuple[str, float]) -> Hypothesis:
    timed = tuple(Word(text, 0.0, 0.1, value) for text, value in words)
    return Hypothesis(id, " ".join(word.text for word in timed), ref=ref, words=timed)


def test_a_word_is_right_where_the_alignment_finds_it(tmp_path: Path) -> None:
    found = [
        hypothesis("1", "one two three", ("one", 0.9), ("too", 0.4), ("three", 0.8)),
        hypothesis("2", "four", ("four", 0.7), ("more", 0.6)),
        hypothesis("3", "Ten.", ("ten", 0.9)),
        hypothesis("4", None, ("five", 0.5)),
    ]
    report = confidence.report(found, normalise="basic", fit=True)
    assert report.before.num_words == 6
    assert sum(entry.num_words * entry.correct for entry in report.before.bins) == pytest.approx(4)
    confidence.write(tmp_path / "map.json", report)
    assert read_calibration(tmp_path / "map.json") == report.calibration
    assert json.loads((tmp_path / "map.json").read_text())["num_words"] == 6
    with pytest.raises(UsageError, match=r"none\.json: cannot read the calibration: No such file"):
        read_calibration(tmp_path / "none.json")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UsageError, match=r"other\.json: not a calibration: it has no numbers"):
        read_calibration(tmp_path / "other.json")
    with pytest.raises(CorpusError, match="--words"):
        confidence.report([hypothesis("5", "six")])
    picture = ElementTree.fromstring(reliability.svg(report))
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}circle")) == sum(
        len(line.bins) for line in (report.before, report.after) if line is not None
    )


def test_a_list_of_hotwords_without_a_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hotwords.txt"
    path.write_text(" ada lovelace\n\nturing\n")
    assert read_lines(path) == ("ada lovelace", "turing")
    path.write_text("\n  \n")
    with pytest.raises(UsageError, match=r"hotwords\.txt: the list is empty"):
        read_lines(path)
