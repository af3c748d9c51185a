"""Prefix beam search with a language model of words and hotwords, by flashlight-text.

The search itself is flashlight's lexicon-free CTC decoder (Collobert, Puhrsch & Synnaeve,
"Wav2Letter", 2016; Kahn et al., "Flashlight", ICML 2022). Its language model here is
:mod:`~hocket.decoding.fusion`.

Shape suffixes: T encoder frames, V tokens with blank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hocket.decoding.fusion import Hotwords, Spelling, Weights, WordModel, flashlight
from hocket.decoding.paths import TokenPath
from hocket.decoding.vocabulary import Vocabulary

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BeamSettings:
    """How widely is searched, and what is added to the model's scores."""

    beam: int = 8
    """Prefixes kept after each frame."""
    beam_tokens: int = 8
    """Tokens tried at each frame, the likeliest."""
    blank_skip: float = 0.999
    """Of frames in a row whose blank is at least that likely only the first is searched. At 1 only
    frames whose blank is certain to float rounding are."""
    lm: Path | None = None
    hotwords: tuple[str, ...] = ()
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Found:
    """A prefix that survived: its path, and its score (natural logarithm, weights included)."""

    path: TokenPath
    text: str
    score: float


class BeamSearch:
    """Searches one utterance at a time; holds the language model."""

    def __init__(self, settings: BeamSettings, vocabulary: Vocabulary) -> None:
        decoder = flashlight()
        self._settings, self._vocabulary = settings, vocabulary
        options = decoder.LexiconFreeDecoderOptions(
            beam_size=settings.beam,
            beam_size_token=min(settings.beam_tokens, vocabulary.vocab_size),
            beam_threshold=25.0,
            lm_weight=1.0,
            sil_score=0.0,
            log_add=True,
            criterion_type=decoder.CriterionType.CTC,
        )
        if settings.lm is not None or settings.hotwords:
            self._lm = _fusion(decoder, settings, vocabulary)
        else:
            self._lm = decoder.ZeroLM()
        blank = vocabulary.blank
        # The decoder wants a token for silence to begin with; the blank is no token of any text.
        self._decoder = decoder.LexiconFreeDecoder(options, self._lm, blank, blank, [])

    def search(self, log_probs_TV: F32, num_best: int = 1) -> list[Found]:
        """At most ``num_best`` texts, the best first, no text twice; one empty text for no frames."""
        kept = self._kept_frames(log_probs_TV)
        if not len(kept):
            return [Found(TokenPath([], [], []), "", 0.0)]
        emissions_TV = np.ascontiguousarray(log_probs_TV[kept], np.float32)
        results = self._decoder.decode(emissions_TV.ctypes.data, *emissions_TV.shape)
        frames = kept.tolist()
        found: dict[str, Found] = {}
        for result in results:
            # A token for each frame, between one before the first and one behind the last.
            path = TokenPath.of_frames(result.tokens[1:-1], self._vocabulary.blank, frames)
            text = self._vocabulary.text(path.tokens)
            if text not in found:
                found[text] = Found(path, text, round(result.score, 4))
            if len(found) == num_best:
                break
        return list(found.values())

    def _kept_frames(self, log_probs_TV: F32) -> npt.NDArray[np.int64]:
        """Numbers of the frames to be searched.

        One blank of a row stays: between two equal tokens it is what parts them.
        """
        threshold = math.log(min(self._settings.blank_skip, 1.0 - 1e-7))
        blank_T = log_probs_TV[:, self._vocabulary.blank] >= threshold
        skipped_T = blank_T.copy()
        skipped_T[1:] &= blank_T[:-1]
        if len(skipped_T):
            skipped_T[0] = False
        return np.flatnonzero(~skipped_T)


@dataclass(frozen=True)
class _Prefix:
    """What the fusion knows of a prefix of tokens."""

    word: str
    """The word being written."""
    lm: Any
    spelling: Spelling | None
    score: float
    """Of the token that made this prefix."""


def _fusion(decoder: Any, settings: BeamSettings, vocabulary: Vocabulary) -> Any:
    """A language model as flashlight asks it: a score for every token added to a prefix."""
    weights = settings.weights
    model = None if settings.lm is None else WordModel(settings.lm)
    hotwords = Hotwords(settings.hotwords, weights.hotword_score) if settings.hotwords else None
    spaced = vocabulary.spaced

    def end_word(word: str, state: Any) -> tuple[Any, float]:
        if model is None or not word:
            return state, 0.0
        state, log_prob = model.score(state, word)
        known = 0.0 if model.knows(word) else weights.unknown_score
        return state, weights.lm_scale * log_prob + weights.word_score + known

    def extend(prefix: _Prefix, text: str) -> _Prefix:
        word, state, score = prefix.word, prefix.lm, 0.0
        first, *others = text.split(" ")
        word += first
        for part in others:
            state, gained = end_word(word, state)
            score += gained
            word = part
        spelling = prefix.spelling
        if hotwords is not None and spelling is not None:
            spelling, gained = hotwords.step(spelling, text)
            score += gained
        return _Prefix(word, state, spelling, score)

    class Fusion(decoder.LM):  # type: ignore[misc, name-defined]
        """Prefixes are told apart by flashlight's own states: one child for each token."""

        def __init__(self) -> None:
            super().__init__()
            self.prefixes: dict[Any, _Prefix] = {}

        def start(self, start_with_nothing: bool) -> Any:
            state = decoder.LMState()
            before = None if model is None else model.start
            spelling = None if hotwords is None else hotwords.start
            self.prefixes = {state: _Prefix("", before, spelling, 0.0)}
            return state

        def score(self, state: Any, token: int) -> tuple[Any, float]:
            after = state.child(token)
            known = self.prefixes.get(after)
            if known is None:
                known = self.prefixes[after] = extend(self.prefixes[state], spaced[token])
            return after, known.score

        def finish(self, state: Any) -> tuple[Any, float]:
            last = extend(self.prefixes[state], " ")
            ended = 0.0 if model is None else weights.lm_scale * model.finish(last.lm)
            return state, last.score + ended

    return Fusion()


def read_hotwords(path: Path) -> tuple[str, ...]:
    """Words and phrases, one a line."""
    return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


