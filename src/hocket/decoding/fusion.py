"""What a beam search adds to the model's own scores: an n-gram model of words, and hotwords.

Both are told token by token, so that no list of words bounds what can be recognised. A word is scored
by the language model when it is complete. A hotword's bonus is given character by character while it
is being spelt and taken back when the spelling goes on otherwise, so that it helps before its end:
shallow fusion with on-the-fly bias, Zhao et al., "Shallow-fusion end-to-end contextual biasing",
Interspeech 2019.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hocket.core.errors import UsageError
from hocket.decoding import arpa

_LN10 = math.log(10.0)


def flashlight() -> tuple[Any, Any]:
    """KenLM and dictionaries of flashlight-text. Raises :class:`UsageError` where it is not installed."""
    try:
        from flashlight.lib.text import dictionary
        from flashlight.lib.text.decoder import kenlm
    except ImportError as error:
        raise UsageError(
            f"a language model needs a package that is not here: {error}", "pip install 'hocket[lm]'"
        ) from error
    return kenlm, dictionary


class WordModel:
    """KenLM over an ARPA file, asked word by word. Scores are natural logarithms."""

    def __init__(self, path: Path) -> None:
        kenlm, dictionaries = flashlight()

        words = arpa.vocabulary(path)
        dictionary = dictionaries.Dictionary([*words, arpa.UNKNOWN])
        self._ids = {word: number for number, word in enumerate(words)}
        self._unknown = len(words)
        try:
            self._model = kenlm.KenLM(str(path), dictionary)
        except RuntimeError as error:
            raise UsageError(f"{path}: KenLM cannot read it: {error}") from error
        self.start = self._model.start(False)

    def knows(self, word: str) -> bool:
        """Whether the word is in the model's vocabulary."""
        return word in self._ids

    def score(self, state: Any, word: str) -> tuple[Any, float]:
        """The state after ``word``, and ln P(word | state)."""
        after, log10_prob = self._model.score(state, self._ids.get(word, self._unknown))
        return after, log10_prob * _LN10

    def finish(self, state: Any) -> float:
        """Ln P(end of sentence | state)."""
        return float(self._model.finish(state)[1]) * _LN10


@dataclass(frozen=True)
class Weights:
    """Weights beside the model's own log-probabilities, which count once."""

    lm_scale: float = 0.5
    """Of the language model's log-probabilities (natural logarithm)."""
    word_score: float = 1.0
    """Added for every word: against the language model's liking for few words."""
    unknown_score: float = -10.0
    """Added for a word that the language model does not know."""
    hotword_score: float = 1.5
    """Added for every character of a hotword."""


class _Node:
    """A place in the trie of hotwords."""

    def __init__(self, begins: bool) -> None:
        self.children: dict[str, _Node] = {}
        self.begins = begins
        """Here a word may begin."""
        self.ends = False
        """Here a phrase is complete."""


@dataclass(frozen=True)
class Spelling:
    """How much of a hotword is spelt; ``node`` is None outside of all."""

    node: _Node | None
    pending: float = 0.0
    """What is taken back if it goes on otherwise."""


class Hotwords:
    """Words and phrases to be preferred, as a trie over their characters."""

    def __init__(self, phrases: Sequence[str], score: float) -> None:
        self._root, self._score = _Node(begins=True), score
        for phrase in phrases:
            node = self._root
            for character in " ".join(phrase.split()) + " ":
                node = node.children.setdefault(character, _Node(begins=character == " "))
            node.ends = True

    @property
    def start(self) -> Spelling:
        """Where an utterance begins."""
        return Spelling(self._root)

    def step(self, state: Spelling, text: str) -> tuple[Spelling, float]:
        """Go on with ``text``: the state after it, and by how much the score changes."""
        gained = 0.0
        for character in text:
            before = state.node
            node = None if before is None else before.children.get(character)
            if node is None:
                gained -= state.pending
                state = Spelling(self._root if character == " " else None)
                if before is not None and before.begins:  # another phrase may begin here
                    node = self._root.children.get(character)
            if node is not None:
                gained += self._score
                pending = self._score + (state.pending if state.node is before else 0.0)
                state = Spelling(node, 0.0 if node.ends else pending)
        return state, gained


@dataclass(frozen=True)
class FusionState:
    """What is known of a prefix of tokens."""

    word: str
    """The word being written."""
    lm: Any
    spelling: Spelling | None
    total: float
    """All that was added to the prefix so far."""


class Fusion:
    """Scores of prefixes, extended piece of text by piece of text; spaces part words."""

    def __init__(self, lm: Path | None, hotwords: Sequence[str], weights: Weights) -> None:
        self._phrases = hotwords
        self._model = None if lm is None else WordModel(lm)
        self._weigh(weights)

    def reweighed(self, weights: Weights) -> Fusion:
        """The same with other weights; the language model is shared."""
        other = copy.copy(self)
        other._weigh(weights)
        return other

    def _weigh(self, weights: Weights) -> None:
        self._weights = weights
        self._hotwords = Hotwords(self._phrases, weights.hotword_score) if self._phrases else None
        before = None if self._model is None else self._model.start
        self.start = FusionState("", before, None if self._hotwords is None else self._hotwords.start, 0.0)

    def extend(self, state: FusionState, text: str) -> FusionState:
        """The state after one more piece of text."""
        word, lm, total = state.word, state.lm, state.total
        first, *others = text.split(" ")
        word += first
        for part in others:
            lm, gained = self._end_word(word, lm)
            total += gained
            word = part
        spelling = state.spelling
        if self._hotwords is not None and spelling is not None:
            spelling, gained = self._hotwords.step(spelling, text)
            total += gained
        return FusionState(word, lm, spelling, total)

    def finish(self, state: FusionState) -> float:
        """The total of a prefix that is a whole utterance: its last word and its end counted."""
        last = self.extend(state, " ")
        if self._model is None:
            return last.total
        return last.total + self._weights.lm_scale * self._model.finish(last.lm)

    def _end_word(self, word: str, lm: Any) -> tuple[Any, float]:
        if self._model is None or not word:
            return lm, 0.0
        lm, log_prob = self._model.score(lm, word)
        known = 0.0 if self._model.knows(word) else self._weights.unknown_score
        return lm, self._weights.lm_scale * log_prob + self._weights.word_score + known
