"""What token ids are as text, and where words begin: all that a search needs to know of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from hocket.corpus.tokens import PieceTokens, Tokens

SENTENCEPIECE = "\u2581"
"""SentencePiece's mark in front of a piece that begins a word."""


@dataclass(frozen=True)
class Vocabulary:
    """Pieces of text by id.

    ``boundary`` is the character that parts words wherever it stands in a piece: a space, the ``|`` of
    wav2vec2, or SentencePiece's mark. The blank and special tokens are empty pieces.
    """

    pieces: tuple[str, ...]
    blank: int
    boundary: str

    @staticmethod
    def of(tokens: Tokens) -> Vocabulary:
        """The tokens of a hocket corpus; the blank comes last."""
        boundary = SENTENCEPIECE if isinstance(tokens, PieceTokens) else " "
        return Vocabulary((*tokens.pieces, ""), tokens.blank, boundary)

    @property
    def vocab_size(self) -> int:
        """Ids a model chooses from, the blank included."""
        return len(self.pieces)

    @cached_property
    def spaced(self) -> tuple[str, ...]:
        """Pieces with spaces where words part."""
        return tuple(piece.replace(self.boundary, " ") for piece in self.pieces)

    def text(self, ids: Iterable[int]) -> str:
        """Words joined by single spaces."""
        return " ".join("".join([self.spaced[number] for number in ids]).split())

    def words(self, ids: Sequence[int]) -> list[tuple[str, list[int]]]:
        """Each word of :meth:`text` with the places in ``ids`` whose pieces wrote it."""
        words: list[tuple[str, list[int]]] = []
        open_word = False
        for place, number in enumerate(ids):
            for index, part in enumerate(self.spaced[number].split(" ")):
                if index:
                    open_word = False
                if not part:
                    continue
                if not open_word:
                    words.append(("", []))
                    open_word = True
                text, places = words[-1]
                words[-1] = (text + part, places if places[-1:] == [place] else [*places, place])
        return words
