"""Language models from the texts of a prepared corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from corpora import spoken_table
from hocket.core.errors import UsageError
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.recognition import language_model


def test_a_prepared_corpus_gives_its_texts(tmp_path: Path) -> None:
    """As the same sentences in a file do."""
    spoken_table(tmp_path / "source", split="train")
    folder = tmp_path / "corpus"
    prepare(str(tmp_path / "source"), folder, settings=PrepareSettings(dev_fraction=0))
    texts = tmp_path / "texts.txt"
    texts.write_text("go left\ngo right\nstop\na b c\n" * 3)
    written = []
    for number, source in enumerate([texts, folder, Path(f"{folder}:train")]):
        out = tmp_path / f"{number}.arpa"
        assert language_model.build([source], out, 2).num_sentences == 12
        written.append(out.read_bytes())
    assert written[0] == written[1] == written[2]
    with pytest.raises(UsageError, match="no split 'tset'"):
        language_model.build([Path(f"{folder}:tset")], tmp_path / "x.arpa", 2)


def test_what_is_no_text_is_told_with_what_would_be(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "gone.txt"):
        with pytest.raises(UsageError, match=f"{source}: cannot read the text: .*\n.*FOLDER:SPLIT"):
            language_model.build([source], tmp_path / "x.arpa", 2)
