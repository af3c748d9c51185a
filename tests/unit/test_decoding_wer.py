"""Error rates: counted as by hand, with an interval that covers what it says."""

from __future__ import annotations

import numpy as np
import pytest

from hocket.core.errors import CorpusError, UsageError
from hocket.decoding import Scored, score
from hocket.decoding.wer import edits


def distance(ref: list[str], hyp: list[str]) -> int:
    row = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        diagonal, row[0] = row[0], i
        for j, h in enumerate(hyp, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (r != h))
    return row[-1]


def test_edits_are_a_cheapest_alignment() -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        ref = random.choice(["a", "b", "one", "two"], random.integers(0, 9)).tolist()
        hyp = random.choice(["a", "b", "one", "two"], random.integers(0, 9)).tolist()
        found = edits(ref, hyp)
        assert found.errors == distance(ref, hyp)
        assert len(ref) - found.deletions + found.insertions == len(hyp)


def test_counts_of_a_small_set() -> None:
    report = score(
        [
            Scored("a", "one two three", "one two three"),
            Scored("b", "one  too", "one two four"),
            Scored("c", "oh yes", ""),
            Scored("d", "whatever", None),
        ]
    )
    assert (report.insertions, report.deletions, report.substitutions) == (2, 1, 1)
    assert report.num_words == 6
    assert report.wer == pytest.approx(4 / 6)
    assert report.num_chars == len("one two three") + len("one two four")
    assert report.char_errors == 5 + len("oh yes")  # "too" needs w, " f" and "ur"
    assert report.cer == pytest.approx(report.char_errors / report.num_chars)
    assert (report.num_utterances, report.num_correct) == (3, 1)
    assert (report.num_without_ref, report.num_empty_refs) == (1, 1)
    assert [(w.id, w.errors) for w in report.worst] == [("c", 2), ("b", 2)]
    assert report.wer_low <= report.wer <= report.wer_high


def test_the_interval_is_repeatable_and_covers_the_truth() -> None:
    """Of 60 test sets drawn with 20 % wrong words, about 95 % have 20 % inside their interval."""
    random = np.random.default_rng(11)
    covered = 0
    for _ in range(60):
        wrong = random.random((80, 5)) < 0.2
        utterances = [
            Scored(str(n), " ".join("x" if w else "w" for w in row), "w w w w w")
            for n, row in enumerate(wrong)
        ]
        report = score(utterances)
        assert report == score(utterances)
        covered += report.wer_low <= 0.2 <= report.wer_high
    assert 51 <= covered <= 60


def test_drawing_by_speaker_widens_the_interval_where_speakers_differ() -> None:
    good = [Scored(f"g{n}", "a b", "a b", "good") for n in range(50)]
    bad = [Scored(f"b{n}", "a x", "a b", "bad") for n in range(50)]
    fair = [Scored(f"f{n}", "a b" if n % 2 else "a x", "a b", "fair") for n in range(50)]
    by_utterance = score([*good, *bad, *fair])
    by_speaker = score([*good, *bad, *fair], by="speaker")
    assert by_speaker.num_drawn == 3
    assert by_speaker.wer == by_utterance.wer
    assert by_speaker.wer_high - by_speaker.wer_low > 3 * (by_utterance.wer_high - by_utterance.wer_low)
    with pytest.raises(UsageError, match="g0: no speaker"):
        score([Scored("g0", "a", "a")], by="speaker")


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(CorpusError, match="no reference among 1 hypotheses"):
        score([Scored("a", "x", None)])
    with pytest.raises(CorpusError, match="none with a word"):
        score([Scored("a", "x", " ")])


def test_one_utterance_and_empty_resamples() -> None:
    report = score([Scored("a", "x", "y"), Scored("b", "", "")])
    assert (report.wer, report.wer_low, report.wer_high) == (1.0, 1.0, 1.0)
