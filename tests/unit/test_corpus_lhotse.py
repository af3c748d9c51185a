"""Corpora that lhotse's recipes know, by the recipe's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora import write_audio
from hocket.core.errors import CorpusError, UsageError
from hocket.corpus import importers
from hocket.corpus.importers.base import ImportContext, Imported
from hocket.corpus.manifest import read as read_cuts
from hocket.corpus.prepare import PrepareSettings, prepare

NO_DEV = PrepareSettings(dev_fraction=0)


def _read(source: Path, format: str) -> Imported:
    context = ImportContext(source / "made", 1, lambda stage, done, total: None)
    return importers.find(str(source), format).read(str(source), context)


def test_a_recipe_of_lhotse_by_name(tmp_path: Path) -> None:
    source = tmp_path / "waves_yesno"
    for number in range(60):
        write_audio(source / f"{'_'.join(f'{number:08b}')}.wav", 1.5, rate=8_000, seed=number)
    report = prepare(str(source), tmp_path / "out", "lhotse:yesno", NO_DEV)
    assert {split: one.utterances for split, one in report.splits.items()} == {"train": 30, "test": 30}
    assert report.name == "yesno"
    assert not (tmp_path / "out" / "audio").exists()
    cuts = dict(read_cuts(tmp_path / "out" / "test" / "cuts.jsonl.gz"))
    assert {"NO NO NO NO NO NO NO YES"} <= {
        cut.text for cut in cuts.values() if not isinstance(cut, CorpusError)
    }


def _returning(monkeypatch: pytest.MonkeyPatch, answer: object) -> None:
    from lhotse import recipes

    def recipe(corpus_dir: str, output_dir: str | None = None) -> object:
        print("what a recipe prints")
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(recipes, "prepare_mine", recipe, raising=False)


def test_supervisions_become_utterances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet

    path = write_audio(tmp_path / "talk.wav", 4.0, channels=2)

    def supervision(id: str, start: float, duration: float, text: str | None = "go") -> SupervisionSegment:
        known = "talk" if id != "lost" else "nowhere"
        return SupervisionSegment(
            id, known, start, duration, text=text, speaker="ann", channel=int(id == "b")
        )

    part = {
        "recordings": RecordingSet.from_recordings([Recording.from_file(path)]),
        "supervisions": SupervisionSet.from_segments(
            [
                supervision("a", 0.5, 1.0),
                supervision("b", 3.0, 1.25),
                supervision("c", 0.0, 4.0),
                supervision("quiet", 0.0, 1.0, None),
                supervision("lost", 0.0, 1.0),
            ]
        ),
    }
    _returning(monkeypatch, {"en": {"train-clean": part}})
    imported = _read(tmp_path, "lhotse:mine")
    a, b, c = imported.items
    assert (a.id, a.audio, a.text, a.speaker, a.split) == ("a", path, "go", "ann", "train")
    assert (a.start_seconds, a.duration_seconds, a.channel) == (0.5, 1.0, 0)
    assert (b.start_seconds, b.duration_seconds, b.channel) == (3.0, 1.0, 1)
    assert c.start_seconds is None
    assert [left.reason for left in imported.broken] == [
        f"{tmp_path}: mine, train: quiet: no text",
        f"{tmp_path}: mine, train: lost: its recording 'nowhere' is not among the recordings",
    ]
    assert capsys.readouterr().out == ""


def test_recipes_that_fail_say_what_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _returning(monkeypatch, AssertionError("No such directory: wavs"))
    with pytest.raises(CorpusError, match="recipe mine failed: AssertionError: No such directory: wavs"):
        _read(tmp_path, "lhotse:mine")
    _returning(monkeypatch, {"noise": {}})
    with pytest.raises(CorpusError, match="recipe mine returned no transcribed speech"):
        _read(tmp_path, "lhotse:mine")
    with pytest.raises(UsageError, match=r"lhotse:librispech: (.|\n)*Did you mean 'librispeech'"):
        _read(tmp_path, "lhotse:librispech")
    with pytest.raises(UsageError, match="heroico asks for more than a folder: speech_dir, transcript_dir"):
        _read(tmp_path, "lhotse:heroico")
    with pytest.raises(CorpusError, match="nowhere: no such file or folder"):
        _read(tmp_path / "nowhere", "lhotse:yesno")
