"""The matched-pair test and the breakdown of errors, against figures worked out by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from hocket.core.errors import CorpusError
from hocket.decoding import Scored, matched_pairs
from hocket.decoding.breakdown import break_down
from hocket.recognition.compare import compare_files


def segments(ref: str, a: str, b: str) -> list[tuple[int, int]]:
    ref_words = ref.split()
    return matched_pairs.segments(*(matched_pairs.word_errors(ref_words, hyp.split()) for hyp in (a, b)))


def test_errors_stand_at_their_words() -> None:
    assert matched_pairs.word_errors(["a", "b", "c"], ["a", "x", "c"]) == [0, 1, 0, 0]
    assert matched_pairs.word_errors(["a", "b", "c"], ["a", "c"]) == [0, 1, 0, 0]
    assert matched_pairs.word_errors(["a", "b", "c"], ["a", "b", "c", "d"]) == [0, 0, 0, 1]
    assert matched_pairs.word_errors([], ["x", "y"]) == [2]


def test_two_good_words_part_segments_and_one_does_not() -> None:
    ref = "a b c d e f g h"
    assert segments(ref, ref, ref) == []
    assert segments(ref, "x b c d e f g h", ref) == [(1, 0)]
    assert segments(ref, "x b y d e f g h", ref) == [(2, 0)]
    assert segments(ref, "x b c y e f g h", ref) == [(1, 0), (1, 0)]
    assert segments(ref, "x b c d e f g h", "a b y d e f g z") == [(1, 1), (0, 1)]


def test_the_statistic_is_the_mean_in_standard_errors() -> None:
    pairs = [(2, 0), (1, 0), (0, 1), (1, 1), (3, 1)]
    found = matched_pairs.compare(pairs)
    differences = [2, 1, -1, 0, 2]
    mean = sum(differences) / 5
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / 4)
    assert found.z == pytest.approx(mean / (deviation / math.sqrt(5)))
    assert found.p == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(found.z / math.sqrt(2)))))
    assert found.few and (found.errors_a, found.errors_b) == (7, 3)
    assert matched_pairs.compare([]).p == matched_pairs.compare([(1, 1)] * 40).p == 1.0
    assert matched_pairs.compare([(1, 0)] * 40).p == 0.0


def write(path: Path, *texts: tuple[str, str, str | None]) -> Path:
    rows = [{"id": id, "text": text} | ({} if ref is None else {"ref": ref}) for id, text, ref in texts]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_two_files_are_compared_where_both_have_an_answer(tmp_path: Path) -> None:
    a = write(tmp_path / "a", ("1", "one two", "one two"), ("2", "x y", "three four"), ("3", "five", "five"))
    b = write(tmp_path / "b", ("1", "one", "one two"), ("2", "three four", "three four"), ("4", "six", None))
    report = compare_files(a, b)
    assert (report.num_utterances, report.num_words) == (2, 4)
    assert (report.wer_a, report.wer_b) == (0.5, 0.25)
    assert (report.num_better_a, report.num_better_b) == (1, 1)
    assert [d.id for d in report.differences] == ["3", "4", "2", "1"]
    assert (report.differences[2].errors_a, report.differences[2].errors_b) == (2, 0)
    other = write(tmp_path / "c", ("1", "one", "one three"))
    with pytest.raises(CorpusError, match=r"1: two references: one three \| one two"):
        compare_files(a, other)
    with pytest.raises(CorpusError, match="no utterance in common"):
        compare_files(a, write(tmp_path / "d", ("9", "x", None)))


def test_errors_by_word_and_by_speaker() -> None:
    found = break_down(
        [
            Scored("1", "the cat sat", "the hat sat", "ann"),
            Scored("2", "the cat", "a hat", "ben"),
            Scored("3", "hat up up", "hat up", "ann"),
            Scored("4", "sat", "sat the", None),
            Scored("5", "ignored", None, "ben"),
        ]
    )
    words = {entry.word: (entry.num_said, entry.errors, entry.heard) for entry in found.words}
    assert words == {
        "hat": (3, 2, (("cat", 2),)),
        "a": (1, 1, (("the", 1),)),
        "the": (2, 1, (("", 1),)),
        "": (0, 1, (("up", 1),)),
    }
    assert found.words[0].word == "hat"
    assert [(s.speaker, s.num_utterances, s.num_words, s.errors) for s in found.speakers] == [
        ("ben", 1, 2, 2),
        (None, 1, 2, 1),
        ("ann", 2, 5, 2),
    ]
