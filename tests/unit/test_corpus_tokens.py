"""Text becomes tokens and comes back; the blank is the last id."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hocket.core.errors import CorpusError
from hocket.corpus import tokens
from hocket.corpus.tokens import Tokens

VERBS = ("open", "close", "find", "paint", "mend", "carry", "forget")
THINGS = ("door", "gate", "window", "ladder", "basket", "lantern")
TEXTS = [
    f"{verb} the {thing} {count}" for verb in VERBS for thing in THINGS for count in ("one", "two", "six")
]
KINDS = ["char", "sentencepiece:32"]


@pytest.mark.parametrize("kind", KINDS)
def test_text_comes_back_also_after_saving(tmp_path: Path, kind: str) -> None:
    made = tokens.make(kind, TEXTS)
    made.save(tmp_path)
    loaded = Tokens.load(tmp_path)
    assert loaded.fingerprint == made.fingerprint
    for text in TEXTS:
        ids = made.encode(text)
        assert loaded.encode(text) == ids
        assert loaded.decode(ids) == text
        assert all(0 <= number < made.blank for number in ids)
    assert made.blank == made.vocab_size - 1


def test_sentencepiece_has_the_asked_size_and_shortens() -> None:
    made = tokens.make("sentencepiece:32", TEXTS)
    assert made.vocab_size == 33
    assert sum(len(made.encode(text)) for text in TEXTS) < 0.85 * sum(map(len, TEXTS))


@pytest.mark.parametrize("kind", KINDS)
def test_training_depends_on_the_texts_alone(kind: str) -> None:
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    assert tokens.make(kind, TEXTS).fingerprint == tokens.make(kind, shuffled).fingerprint
    assert tokens.make(kind, TEXTS).fingerprint != tokens.make(kind, [*TEXTS, "queue"]).fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_characters_are_named(kind: str) -> None:
    made = tokens.make(kind, TEXTS)
    with pytest.raises(CorpusError, match=r"'q' \(U\+0071\), 'é' \(U\+00E9\)"):
        made.encode("open thé qate")
    assert made.unknown("open thé qate") == {"é", "q"}
    assert made.decode(made.encode_known("open the gateé")) == "open the gate"


def test_what_cannot_be_made_says_why(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"sentencepiece:SIZE"):
        tokens.make("bpe:30", TEXTS)
    with pytest.raises(CorpusError, match=r"cannot train 9999 SentencePiece tokens.*\n.*At most \d+"):
        tokens.make("sentencepiece:9999", TEXTS)
    with pytest.raises(CorpusError, match=r"tokens\.json: cannot read"):
        Tokens.load(tmp_path)
    (tmp_path / "tokens.json").write_text('{"kind": "char"}')
    with pytest.raises(CorpusError, match="cannot be used"):
        Tokens.load(tmp_path)
