"""Transcripts as they are learnt and scored."""

from __future__ import annotations

from typing import Literal

Case = Literal["keep", "lower", "upper"]


def normalise(text: str, case: Case = "keep") -> str:
    """Any white space becomes one space, none at the ends; the case as asked."""
    text = " ".join(text.split())
    return text.lower() if case == "lower" else text.upper() if case == "upper" else text
