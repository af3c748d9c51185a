"""Tokens: what a model writes. The blank is the last id, ``vocab_size - 1``.

Two kinds: characters, and pieces of SentencePiece's unigram model (Kudo, "Subword regularization",
ACL 2018). Saved as ``tokens.json``, the second with ``tokens.model`` beside it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hocket.core import files
from hocket.core.errors import CorpusError

FILE, MODEL_FILE = "tokens.json", "tokens.model"
_AND = "char+"


class Tokens(ABC):
    """A set of tokens; text to ids and back."""

    kind: str

    def __init__(self, pieces: Sequence[str]) -> None:
        self.pieces = tuple(pieces)
        self._ids = {piece: number for number, piece in enumerate(self.pieces)}

    @property
    def blank(self) -> int:
        """The id of CTC's blank, after all real tokens."""
        return len(self.pieces)

    @property
    def vocab_size(self) -> int:
        """Ids a model chooses from, the blank included."""
        return len(self.pieces) + 1

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides how text becomes ids."""
        return hashlib.sha256(json.dumps([self.kind, self.pieces]).encode()).hexdigest()[:16]

    def encode(self, text: str) -> list[int]:
        """The ids of a text. Raises :class:`CorpusError` naming characters that no token has."""
        unknown = self.unknown(text)
        if unknown:
            raise CorpusError(
                f"no token for {name_characters(unknown)} in {text!r}",
                "Normalise the text, or make the tokens from text that has these characters.",
            )
        return self.encode_known(text)

    @abstractmethod
    def encode_known(self, text: str) -> list[int]:
        """The ids of a text without the characters that no token has."""

    @abstractmethod
    def unknown(self, text: str) -> set[str]:
        """The characters of a text that no token has."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; blanks are not among them."""

    def save(self, folder: Path) -> None:
        """Write the tokens into a folder, to be read by :meth:`load`."""
        files.write_json(folder / FILE, {"version": 1, "kind": self.kind, "pieces": list(self.pieces)})

    @staticmethod
    def load(folder: Path) -> Tokens:
        """Read tokens from a folder. Raises :class:`CorpusError` when there are none."""
        path = folder / FILE
        try:
            saved: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if saved["kind"] == CharTokens.kind:
                return CharTokens(saved["pieces"])
            if saved["kind"] == PieceTokens.kind:
                return PieceTokens((folder / MODEL_FILE).read_bytes())
        except OSError as error:
            raise CorpusError(f"{error.filename}: cannot read the tokens: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CorpusError(f"{folder}: the tokens cannot be used: {error!r}") from error
        raise CorpusError(f"{path}: tokens of an unknown kind {saved['kind']!r}")


class CharTokens(Tokens):
    """One token for each character, the space included."""

    kind = "char"

    @staticmethod
    def train(texts: Iterable[str]) -> CharTokens:
        """The characters of the texts, sorted."""
        return CharTokens(sorted(set().union(*texts)))

    def encode_known(self, text: str) -> list[int]:
        """The ids of the known characters."""
        return [self._ids[character] for character in text if character in self._ids]

    def unknown(self, text: str) -> set[str]:
        """The characters that no token has."""
        return set(text).difference(self._ids)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return " ".join("".join(self.pieces[number] for number in ids).split())


class PieceTokens(Tokens):
    """Pieces of a SentencePiece model. Its unknown piece (id 0 there) is no token here."""

    kind = "sentencepiece"

    def __init__(self, model: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self._model = model
        self._processor: Any = SentencePieceProcessor(model_proto=model)
        if self._processor.unk_id() != 0 or self._processor.bos_id() >= 0 or self._processor.pad_id() >= 0:
            raise ValueError("the model's only special piece must be the unknown one, with id 0")
        super().__init__([self._processor.id_to_piece(i) for i in range(1, len(self._processor))])
        self._characters = {character for piece in self.pieces for character in piece} | {" "}

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the model."""
        return hashlib.sha256(self._model).hexdigest()[:16]

    @staticmethod
    def train(texts: Iterable[str], size: int) -> PieceTokens:
        """Train ``size`` pieces, on one thread and in an order of its own: the same for the same texts.

        Raises :class:`CorpusError` when the texts do not hold that many pieces.
        """
        from sentencepiece import SentencePieceTrainer

        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=iter(sorted(texts)),
                model_writer=model,
                model_type="unigram",
                vocab_size=size + 1,
                character_coverage=1.0,
                normalization_rule_name="identity",
                max_sentence_length=1 << 20,
                num_threads=1,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                minloglevel=2,
            )
        except RuntimeError as error:
            most = re.search(r"value <= (\d+)", str(error))
            reason = "the text is too small" if most else str(error).split("] ")[-1].strip()
            # SentencePiece counts the unknown piece, which is no token here.
            hint = f"At most {int(most[1]) - 1} can be made of it." if most else "Ask for another number."
            raise CorpusError(f"cannot train {size} SentencePiece tokens: {reason}", hint) from error
        return PieceTokens(model.getvalue())

    def encode_known(self, text: str) -> list[int]:
        """The ids of the known characters."""
        ids = np.asarray(self._processor.encode(text), np.int64)
        return [int(number) - 1 for number in ids if number > 0]

    def unknown(self, text: str) -> set[str]:
        """The characters that no token has."""
        return set(text) - self._characters

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        return str(self._processor.decode([int(number) + 1 for number in ids]))

    def save(self, folder: Path) -> None:
        """Write ``tokens.json`` and ``tokens.model``."""
        files.write_bytes(folder / MODEL_FILE, self._model)
        super().save(folder)


def make(kind: str, texts: Iterable[str]) -> Tokens:
    """Tokens of a kind as users write it: ``char``, ``char+FOLDER``, or ``sentencepiece:SIZE``.

    ``char+FOLDER`` adds the characters that another prepared corpus has, so that the two can be mixed.
    Raises :class:`CorpusError` when there is no such kind.
    """
    name, _, size = kind.partition(":")
    if kind == CharTokens.kind:
        return CharTokens.train(texts)
    if kind.startswith(_AND):
        others = Tokens.load(Path(kind.removeprefix(_AND)))
        if others.kind != CharTokens.kind:
            raise CorpusError(
                f"tokens {kind!r}: the tokens there are of kind {others.kind}",
                "Name the folder alone to use its tokens as they are.",
            )
        return CharTokens.train([*texts, "".join(others.pieces)])
    if name == PieceTokens.kind and size.isdigit() and int(size) > 0:
        return PieceTokens.train(texts, int(size))
    raise CorpusError(
        f"tokens {kind!r}: not known",
        "Say 'char', 'char+FOLDER', 'sentencepiece:SIZE' (such as sentencepiece:500), or a folder that has "
        "tokens.json.",
    )


def name_characters(characters: Iterable[str]) -> str:
    """Characters as a person can tell them apart: ``'é' (U+00E9), 'ß' (U+00DF)``."""
    return ", ".join(f"{character!r} (U+{ord(character):04X})" for character in sorted(characters))
