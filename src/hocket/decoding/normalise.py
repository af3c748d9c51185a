"""Transcripts brought to one way of writing before they are compared.

``basic`` forgives what a model that writes plain words cannot know: case, punctuation, and which of
several codes of Unicode stands for a character. It knows no language: numbers and abbreviations stay
as they are written.
"""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

from hocket.core.errors import UsageError

Normalisation = Literal["none", "basic"]
"""``none``: as it is; ``basic``: see :func:`basic`."""

_APOSTROPHES = frozenset("'\u2018\u2019\u02bc\uff07`\u00b4")


def normalise(text: str, how: Normalisation) -> str:
    """``text`` by that normalisation. Raises :class:`UsageError` for one that is not known."""
    if how == "none":
        return text
    if how == "basic":
        return basic(text)
    raise UsageError(f"normalise: {how!r} is not known", f"Known: {', '.join(get_args(Normalisation))}.")


def basic(text: str) -> str:
    """Lower case, without punctuation and symbols, single spaces, in Unicode's form NFKC.

    Apostrophes go without a trace (``don't`` is ``dont``); other punctuation and symbols (Unicode's
    categories P and S) part words (``twenty-one`` is ``twenty one``). Accents and the marks of other
    scripts stay. Twice is the same as once. https://unicode.org/reports/tr15/
    """
    joined = "".join(character for character in text if character not in _APOSTROPHES)
    plain = unicodedata.normalize("NFKC", joined).lower()
    bare = "".join(
        "" if character in _APOSTROPHES else " " if unicodedata.category(character)[0] in "PS" else character
        for character in plain
    )
    return " ".join(unicodedata.normalize("NFKC", bare).split())
