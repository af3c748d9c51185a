"""Manifests of cuts: read by lhotse, and read again by us."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corpora import write_audio, write_table
from hocket.core.errors import CorpusError
from hocket.corpus import audio, manifest
from hocket.corpus.manifest import Cut
from hocket.corpus.prepare import PrepareSettings, prepare


def _cut(path: Path, **changes: object) -> Cut:
    fields: dict[str, object] = {
        "id": "u",
        "audio": path,
        "sample_rate": 8_000,
        "channels": 2,
        "file_samples": 24_000,
        "channel": 1,
        "start": 4_001,
        "num": 12_003,
        "text": "go left é",
        "speaker": "s",
    }
    return Cut(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz"])
def test_cuts_come_back(tmp_path: Path, name: str) -> None:
    cuts = [
        _cut(tmp_path / "a.wav"),
        _cut(tmp_path / "a.wav", channel=None),
        _cut(tmp_path / "a.wav", channels=1, channel=None, start=0, num=24_000, speaker=None, text=None),
    ]
    manifest.write(tmp_path / name, cuts)
    assert list(manifest.read(tmp_path / name)) == [(number, cut) for number, cut in enumerate(cuts, 1)]
    first = (tmp_path / name).read_bytes()
    manifest.write(tmp_path / name, cuts)
    assert (tmp_path / name).read_bytes() == first


def test_lines_that_are_no_cuts_name_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "cuts.jsonl"
    manifest.write(path, [_cut(tmp_path / "a.wav")])
    path.write_text("{torn\n" + path.read_text() + '{"type": "PaddingCut"}\n{"type": "MonoCut"}\n')
    read = [entry for _, entry in manifest.read(path)]
    assert [isinstance(entry, Cut) for entry in read] == [False, True, False, False]
    for number, words in ((1, "no JSON"), (3, "PaddingCut"), (4, "recording")):
        assert f"{path}:{number}" in str(read[number - 1])
        assert words in str(read[number - 1])
    with pytest.raises(CorpusError, match=r"none\.jsonl"):
        list(manifest.read(tmp_path / "none.jsonl"))


def test_lhotse_loads_what_was_prepared_and_hears_the_same(tmp_path: Path) -> None:
    lhotse = pytest.importorskip("lhotse")
    source = tmp_path / "source"
    write_audio(source / "mono.flac", 1.5, seed=1)
    write_audio(source / "slow.wav", 1.5, rate=8_000, seed=2)
    write_audio(source / "stereo.wav", 2.0, channels=2, seed=3)
    rows = [
        {"id": "mono", "audio": "mono.flac", "text": "go", "speaker": "a"},
        {"id": "slow", "audio": "slow.wav", "text": "stop"},
        {"id": "average", "audio": "stereo.wav", "text": "go"},
        {"id": "right", "audio": "stereo.wav", "text": "left", "channel": 1},
        {"id": "part", "audio": "mono.flac", "text": "o", "start": 0.25, "duration": 0.5},
    ]
    write_table(source, rows)
    prepare(str(source), tmp_path / "out", settings=PrepareSettings(dev_fraction=0))
    cuts = {cut.id: cut for cut in lhotse.CutSet.from_file(tmp_path / "out" / "train" / manifest.FILE)}
    assert len(cuts) == 5
    assert cuts["mono"].supervisions[0].text == "go"
    assert cuts["mono"].supervisions[0].speaker == "a"
    for name, channel, start, num in (
        ("mono", None, 0, None),
        ("average", None, 0, None),
        ("right", 1, 0, None),
        ("part", None, 4_000, 8_000),
    ):
        ours = audio.read(
            source / str(next(row["audio"] for row in rows if row["id"] == name)), channel, start, num
        )
        np.testing.assert_allclose(cuts[name].load_audio().mean(axis=0), ours, atol=1e-6)
    assert type(cuts["average"]).__name__ == "MultiCut"
    assert cuts["slow"].sampling_rate == 8_000
    assert cuts["slow"].load_audio().shape == (1, 12_000)
    lhotse.qa.validate(cuts["average"], read_data=True)
