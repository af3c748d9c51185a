"""The journal: whatever kills its writer, it is whole micro-batches, and only those of its own job."""

from __future__ import annotations

from pathlib import Path

import pytest

from hocket.core.errors import RunError
from hocket.core.transcript import Alternative, Transcript, Word
from hocket.recognition.journal import Answer, Journal, read_fingerprint

PRINT = {"inputs": "5 of sha256 ab", "settings": {"batch_seconds": 60.0}, "hocket": "1"}
RICH = Transcript(
    "zwölf ☃", (Word("zwölf", 0.1, 0.52, 0.9), Word("☃", 0.6, 0.7)), 0.8, (Alternative("a", -1.5),)
)
BATCHES = [
    [Answer(3, RICH, ""), Answer(1, None, "a.wav: it is broken")],
    [Answer(0, Transcript(""), ""), Answer(2, Transcript("two"), "")],
    [Answer(4, Transcript("four"), "")],
]


def open_journal(path: Path, fresh: bool = False) -> Journal:
    return Journal(path, PRINT, num_pieces=5, num_micro_batches=3, fresh=fresh)


def written(path: Path) -> Path:
    with open_journal(path) as journal:
        for number, answers in enumerate(BATCHES):
            journal.add(number, answers)
    return path


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "j")
    with open_journal(path) as journal:
        assert journal.done.tolist() == [True, True, True]
        for answers in BATCHES:
            assert [journal.answer(answer.piece) for answer in answers] == answers
        order = journal.finished_at().argsort().tolist()
    assert order == [3, 1, 0, 2, 4]
    assert read_fingerprint(path) == PRINT


def test_cut_anywhere_it_keeps_the_whole_micro_batches_and_goes_on(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole").read_bytes()
    ends = [0]
    for number in range(3):
        with open_journal(tmp_path / f"{number}") as journal:
            ends.append(journal.num_bytes)
            for added in range(number + 1):
                journal.add(added, BATCHES[added])
            ends[-1] = journal.num_bytes
    path = tmp_path / "torn"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with open_journal(path) as journal:
            kept = [length >= end for end in ends[1:]]
            assert journal.done.tolist() == kept, f"cut at {length}"
            assert (journal.answer(4) is not None) == kept[2]
            for number, done in enumerate(kept):
                if not done:
                    journal.add(number, BATCHES[number])
        assert path.read_bytes() == whole, f"cut at {length}"


def test_garbage_at_the_end_is_dropped_and_elsewhere_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 500 + b"\n" + b'deadbeef {"piece":1,"text":"no"}\n')
    with open_journal(path) as journal:
        assert journal.done.all()
    assert path.read_bytes() == whole
    place = whole.index(b'"two"')
    path.write_bytes(whole[:place] + b'"too"' + whole[place + 5 :])
    with pytest.raises(RunError, match="damaged before byte"):
        open_journal(path)
    with open_journal(path, fresh=True) as journal:
        assert not journal.done.any()


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with open_journal(tmp_path / "j"):
        with pytest.raises(RunError, match="another process is writing"):
            open_journal(tmp_path / "j")
        with pytest.raises(RunError, match="another process is writing"):
            open_journal(tmp_path / "j", fresh=True)
    with open_journal(tmp_path / "j"):
        pass


def test_the_journal_of_another_job_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    path = written(tmp_path / "j")
    whole = path.read_bytes()
    other = {**PRINT, "settings": {**PRINT["settings"], "batch_seconds": 30.0}, "cut": "another"}
    with pytest.raises(RunError, match=r"what differs: batch_seconds \(60\.0 there, 30\.0 now\)\n"):
        Journal(path, other, 5, 3)
    assert path.read_bytes() == whole
    (tmp_path / "x").write_text("something else\n")
    with pytest.raises(RunError, match="not a journal"):
        open_journal(tmp_path / "x")
