"""Files that a job writes: their formats, and that each is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from hocket.core.errors import RunError, UsageError
from hocket.core.transcript import Transcript, Word, stitch
from hocket.recognition import hypotheses, outputs, subtitles
from hocket.recognition.hypotheses import Failure, Hypothesis

WORDS = (Word("go", 0.5, 0.75, 0.9), Word("<left>", 0.8, 1.25), Word("now", 3.0, 3.5, 0.25))
FOUND = [
    Hypothesis("d/a b.wav", "go <left> now", 4.0, "go left", "ann", WORDS, 0.7),
    Failure("gone.wav", "gone.wav", "gone.wav: no such file"),
    Hypothesis("two\nlines.wav", "", 1.0),
    Hypothesis("bad\udcff.wav", "", 1.0),
]


def test_every_format(tmp_path: Path) -> None:
    outs = [tmp_path / name for name in ("h.jsonl", "h.txt", "h.ctm", "h.parquet", "s/*.srt", "s/*.vtt")]
    assert outputs.write(outs, FOUND) == (3, 1, 6.0)
    assert hypotheses.read(outs[0]) == [found for found in FOUND if isinstance(found, Hypothesis)]
    (failed,) = map(json.loads, (tmp_path / "h.failed.jsonl").read_text().splitlines())
    assert failed == {"id": "gone.wav", "audio": "gone.wav", "reason": "gone.wav: no such file"}
    assert (tmp_path / "h.txt").read_text() == "go <left> now\n\n\n"
    assert (tmp_path / "h.ctm").read_text().splitlines() == [
        "d/a%20b.wav 1 0.500 0.250 go 0.9000",
        "d/a%20b.wav 1 0.800 0.450 <left>",
        "d/a%20b.wav 1 3.000 0.500 now 0.2500",
    ]
    rows = pq.read_table(outs[3]).to_pylist()
    assert [row["text"] for row in rows] == ["go <left> now", "", ""]
    assert rows[0]["words"][1] == {"text": "<left>", "start": 0.8, "end": 1.25, "confidence": None}
    srt = (tmp_path / "s/d/a b.wav.srt").read_text()
    assert srt == ("1\n00:00:00,500 --> 00:00:01,250\ngo <left>\n\n2\n00:00:03,000 --> 00:00:03,500\nnow\n\n")
    vtt = (tmp_path / "s/d/a b.wav.vtt").read_text()
    assert vtt.startswith("WEBVTT\n\n00:00:00.500 --> 00:00:01.250\ngo &lt;left&gt;\n")
    assert (tmp_path / "s/two%0Alines.wav.srt").read_text() == ""
    assert outputs.write(outs[:1], FOUND[:1]) == (1, 0, 4.0)
    assert not (tmp_path / "h.failed.jsonl").exists(), "an old list of failures does not stay"


def test_a_failure_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "h.jsonl"
    out.write_text("old")

    def some() -> object:
        yield FOUND[0]
        yield FOUND[1]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        outputs.write([out, tmp_path / "h.parquet"], some())  # type: ignore[arg-type]
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("h.jsonl", "old")]


def test_names_that_cannot_be_written(tmp_path: Path) -> None:
    jsonl = tmp_path / "h.jsonl"
    for outs, words in [
        ([tmp_path / "h.doc"], "no format"),
        ([jsonl, tmp_path / "*.ctm"], "leave out"),
        ([jsonl, tmp_path / "h.srt"], "5 recordings"),
        ([tmp_path / "*.srt"], "journal"),
        ([], "no output"),
    ]:
        with pytest.raises(UsageError, match=words):
            outputs.check(outs, 5)
    outputs.check([tmp_path / "h.srt"], 1)
    assert not outputs.need_times([jsonl]) and outputs.need_times([jsonl, tmp_path / "h.ctm"])
    with pytest.raises(UsageError, match="two recordings"):
        outputs.write([jsonl, tmp_path / "*.srt"], [Hypothesis("/a", ""), Hypothesis("a", "")])
    with pytest.raises(RunError, match="no times"):
        outputs.write([jsonl, tmp_path / "h.ctm"], [Hypothesis("a", "go")])


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.txt").mkdir()
    for name, words in (("file/h.jsonl", "no folder can be made"), ("folder.txt", "a folder has this name")):
        with pytest.raises(UsageError, match=f"{name}: cannot be written: {words}"):
            outputs.make_folders([tmp_path / "h.jsonl", tmp_path / name])
    outputs.make_folders([tmp_path / "new" / "*.srt"])
    assert (tmp_path / "new").is_dir()


def test_an_id_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    outputs.write([tmp_path / "h.jsonl", tmp_path / "s/*.vtt"], [Hypothesis("../../etc/x", "")])
    assert (tmp_path / "s/%2E%2E/%2E%2E/etc/x.vtt").exists()


def test_cues_are_short_and_hold_every_word_once() -> None:
    words = [Word("word" * (n % 4 + 1), 0.4 * n, 0.4 * n + 0.3) for n in range(60)]
    found = subtitles.cues(words)
    assert " ".join(" ".join(lines) for _, _, lines in found) == " ".join(word.text for word in words)
    for (start, end, lines), after in zip(found, [*found[1:], None], strict=True):
        assert end - start <= 6.0 and len(lines) <= 2 and all(len(line) <= 42 for line in lines)
        assert after is None or end <= after[0]


def test_pieces_are_stitched_with_their_times() -> None:
    one = Transcript("a b", (Word("a", 0.0, 0.5), Word("b", 1.0, 1.5)), 0.5)
    two = Transcript("c", (Word("c", 0.25, 0.5, 0.5),), 0.8)
    whole = stitch([(0.0, 10.0, one), (10.0, 20.0, two), (30.0, 5.0, Transcript("", (), 1.0))])
    assert whole.text == "a b c"
    assert [(w.text, w.start, w.end) for w in whole.words] == [
        ("a", 0.0, 0.5), ("b", 1.0, 1.5), ("c", 10.25, 10.5)
    ]  # fmt: skip
    assert whole.confidence == pytest.approx((10 * 0.5 + 20 * 0.8 + 5) / 35)
    assert stitch([(0.0, 10.0, one), (10.0, 20.0, Transcript("c"))]).confidence is None
