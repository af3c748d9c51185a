"""Files of hypotheses: written whole, read with file and line in every complaint, scored, compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from hocket.core.errors import CorpusError, UsageError
from hocket.recognition import hypotheses, outputs
from hocket.recognition.compare import Difference, differing
from hocket.recognition.hypotheses import Failure, Hypothesis
from hocket.recognition.score import score_file

FOUND = [
    Hypothesis("a", "one two", 1.5, "one too", "ann"),
    Hypothesis("b", "", 0.25, "drei größer"),
    Hypothesis("c", "whatever", 2.0),
]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "hyps.jsonl"
    outputs.write([out], [*FOUND, Failure("d", "d.wav", "truncated")])
    assert hypotheses.read(out) == FOUND
    assert out.read_text().splitlines()[2] == '{"id": "c", "text": "whatever", "duration": 2.0}'
    failed = tmp_path / "deep" / "hyps.failed.jsonl"
    assert failed.read_text() == '{"id": "d", "audio": "d.wav", "reason": "truncated"}\n'
    outputs.write([out], FOUND)
    assert not failed.exists(), "a list of failures of an earlier job must not stay"
    assert sorted(path.name for path in out.parent.iterdir()) == ["hyps.jsonl"]


def test_a_file_is_scored_by_the_references_in_it(tmp_path: Path) -> None:
    outputs.write([tmp_path / "h.jsonl"], FOUND)
    report = score_file(tmp_path / "h.jsonl")
    assert (report.num_words, report.substitutions, report.deletions, report.insertions) == (4, 1, 2, 0)
    assert (report.num_utterances, report.num_without_ref) == (2, 1)
    assert [worst.id for worst in report.worst] == ["b", "a"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"id": "x", "text": "y"', "not JSON"),
        ('["x"]', "not a JSON object"),
        ('{"id": "x"}', "'text' is missing"),
        ('{"id": 7, "text": "y"}', "'id' is missing or no text"),
        ('{"id": "x", "text": "y", "ref": 3}', "'ref' is no text"),
        ('{"id": "x", "text": "y", "duration": "long"}', "'duration' is no number"),
        ('{"id": "a", "text": "y"}', "the id 'a' came before, on line 1"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(f'{{"id": "a", "text": "x", "ref": "x"}}\n\n{line}\n')
    with pytest.raises(CorpusError) as caught:
        score_file(path)
    assert str(caught.value).startswith(f"{path}:3: ") and words in str(caught.value)


def test_files_that_cannot_be_scored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.jsonl: cannot read"):
        score_file(tmp_path / "gone.jsonl")
    outputs.write([tmp_path / "h.jsonl"], [Hypothesis("a", "x")])
    with pytest.raises(CorpusError, match=r"h\.jsonl: nothing to score: no reference among 1 hyp"):
        score_file(tmp_path / "h.jsonl")


def test_differences_are_counted_by_id() -> None:
    other = [Hypothesis("b", "x"), Hypothesis("a", "one two", 9.0), Hypothesis("e", "")]
    assert differing(FOUND, FOUND) == []
    assert differing(FOUND, other) == [
        Difference("b", "", "x"),
        Difference("c", "whatever", None),
        Difference("e", None, ""),
    ]
