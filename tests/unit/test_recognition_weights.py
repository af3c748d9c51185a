"""Weights of a language model, chosen by errors on speech with known texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora import spoken_table
from hocket.core.errors import CorpusError
from hocket.corpus.tokens import CharTokens
from hocket.decoding import ngram
from hocket.decoding.beam import BeamSettings
from hocket.decoding.vocabulary import Vocabulary
from hocket.recognition import opening, weights

TOKENS = CharTokens(" ab")
VOCABULARY = Vocabulary.of(TOKENS)


class Unsure:
    """Hears "a ab" with probability 0.6 in each letter, "a bb" otherwise, whatever is said."""

    vocab_size, frame_seconds = 4, 0.04

    def features(self, waveform: np.ndarray) -> torch.Tensor:
        return torch.zeros(len(waveform) // 160, 1)

    def encode(self, features: Sequence[torch.Tensor], num_frames: int) -> tuple[torch.Tensor, torch.Tensor]:
        probs_TV = torch.full((8, 4), 1e-4)
        for place, (a, b) in enumerate(zip("a ab", "a bb", strict=True)):
            probs_TV[2 * place, TOKENS.encode(a)[0]] += 0.6
            probs_TV[2 * place, TOKENS.encode(b)[0]] += 0.4
            probs_TV[2 * place + 1, VOCABULARY.blank] = 1.0
        log_probs_TV = (probs_TV / probs_TV.sum(dim=1, keepdim=True)).log()
        return log_probs_TV.expand(len(features), 8, 4), torch.full((len(features),), 8)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BeamSettings:
    pytest.importorskip("flashlight.lib.text.decoder")
    monkeypatch.setattr(opening, "find", lambda name: opening.Found(Path(name), "hf"))
    monkeypatch.setattr(opening, "load", lambda *_: (Unsure(), VOCABULARY))
    ngram.train(["a bb", "a bb", "a bb", "a ab"], 2).write(tmp_path / "lm.arpa")
    return BeamSettings(beam=8, lm=tmp_path / "lm.arpa")


def said(folder: Path, *texts: str) -> str:
    """A table of sounds that are said to be these, over and over."""
    table = spoken_table(folder)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    for number, row in enumerate(rows):
        row["text"] = texts[number % len(texts)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(table)


def test_a_model_that_knows_the_texts_is_given_weight(settings: BeamSettings, tmp_path: Path) -> None:
    found = weights.tune("model", [said(tmp_path / "said", "a bb")], settings)
    assert (found.num_utterances, found.num_words, found.num_failed) == (12, 24, 0)
    assert found.greedy_wer == 0.5 and found.wer == 0.0
    by_scale = {point.lm_scale: point.wer for point in found.tried if point.word_score == found.word_score}
    assert by_scale[0.2] == 0.5 and found.lm_scale > 0.2


def test_a_model_of_other_texts_is_given_little(settings: BeamSettings, tmp_path: Path) -> None:
    """Utterances that cannot be read, and those without a text, are left out."""
    table = Path(said(tmp_path / "said", "a ab", "a ab", ""))
    (tmp_path / "said" / "audio" / "0.wav").write_bytes(b"no sound")
    found = weights.tune("model", [str(table)], settings)
    assert (found.num_utterances, found.num_failed) == (7, 1)
    assert found.wer == found.greedy_wer == 0.0
    assert found.lm_scale <= 0.4


def test_without_texts_there_is_nothing_to_tune_on(settings: BeamSettings, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="FOLDER:dev"):
        weights.tune("model", [said(tmp_path / "said", "")], settings)
