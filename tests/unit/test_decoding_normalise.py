"""Texts brought to one way of writing: what is forgiven, what is not, and how it enters the score."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hocket.core.errors import UsageError
from hocket.decoding import Scored, normalise, score


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("  Turn\tON the\n light. ", "turn on the light"),
        ("Don't! DON\u2019T, rock 'n' roll", "dont dont rock n roll"),
        ("twenty-one, e\u2014mail", "twenty one e mail"),
        ("\u00bfQu\u00e9? \u00ab Gr\u00f6\u00dfer \u00bb \u2026", "qu\u00e9 gr\u00f6\u00dfer"),
        ("caf\u00e9", "caf\u00e9"),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufb01ve \uff21\uff22\uff23\u3000\u2460", "five abc 1"),
        ("a + b = $5 ~ 100 %", "a b 5 100"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940\u0964", "\u0939\u093f\u0928\u094d\u0926\u0940"),
        ("snake_case", "snake case"),
        ("...", ""),
    ],
)
def test_basic(text: str, wanted: str) -> None:
    assert normalise(text, "basic") == wanted


def test_none_changes_nothing() -> None:
    assert normalise("  Don't\t!", "none") == "  Don't\t!"


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_twice_is_the_same_as_once(text: str) -> None:
    once = normalise(text, "basic")
    assert normalise(once, "basic") == once


def test_one_that_is_not_known() -> None:
    with pytest.raises(UsageError, match=r"'whisper' is not known(.|\n)*none, basic"):
        normalise("a", "whisper")  # type: ignore[arg-type]


def test_both_sides_are_normalised_before_they_are_scored() -> None:
    found = [Scored("a", "go left", "Go, LEFT!"), Scored("b", "Stop now", "stop.")]
    strict, kind = score(found), score(found, normalise="basic")
    assert (strict.substitutions, strict.insertions, strict.num_correct) == (3, 1, 0)
    assert (kind.substitutions, kind.insertions, kind.num_correct) == (0, 1, 1)
    assert (kind.num_words, kind.num_chars, kind.char_errors) == (3, 11, 4)
    assert (strict.normalise, kind.normalise) == ("none", "basic")
    assert [(line.ref, line.hyp) for line in kind.worst] == [("stop", "stop now")]


def test_a_reference_of_punctuation_alone_has_no_words() -> None:
    report = score([Scored("a", "", "..."), Scored("b", "go", "go")], normalise="basic")
    assert (report.num_empty_refs, report.wer) == (1, 0.0)
