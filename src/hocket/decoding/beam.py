"""Prefix beam search for CTC, with a language model of words and hotwords.

Sums over all paths of a prefix: Hannun, Maas, Jurafsky & Ng, "First-pass large vocabulary continuous
speech recognition using bi-directional recurrent DNNs", 2014, arXiv:1408.2873. Written in Python on
purpose: most frames leave one or two tokens to be tried, and a language model that is asked token by
token through a binding costs more than the search.

Shape suffixes: T encoder frames, V tokens with blank.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from heapq import nlargest
from operator import itemgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hocket.decoding.fusion import Fusion, FusionState, Weights
from hocket.decoding.paths import F32
from hocket.decoding.vocabulary import Vocabulary

Tried = list[list[tuple[int, float]]]
"""Of each frame the tokens that are tried there, with their probabilities."""

_LEAST = 1e-300
"""Keeps the logarithm of a sum that has underflown finite."""


@dataclass(frozen=True)
class BeamSettings:
    """How widely is searched, and what is added to the model's scores."""

    beam: int = 8
    """Prefixes kept after each frame."""
    token_threshold: float = 1e-3
    """Tokens less likely than that are not tried at a frame; the likeliest always is."""
    blank_skip: float = 0.999
    """Of frames in a row whose blank is at least that likely only the first is searched; at 1 every
    frame is."""
    lm: Path | None = None
    hotwords: tuple[str, ...] = ()
    weights: Weights = field(default_factory=Weights)


@dataclass(frozen=True)
class Found:
    """A text that survived, its tokens, and its score (natural logarithm, weights included)."""

    tokens: list[int]
    text: str
    score: float


class _Prefix:
    """Tokens as a path from the root of a tree, so that a prefix is one object."""

    __slots__ = ("children", "fusion", "parent", "token")

    def __init__(self, token: int, parent: _Prefix | None, fusion: FusionState) -> None:
        self.token, self.parent, self.fusion = token, parent, fusion
        self.children: dict[int, _Prefix] = {}

    def tokens(self) -> list[int]:
        tokens: list[int] = []
        prefix: _Prefix = self
        while prefix.parent is not None:
            tokens.append(prefix.token)
            prefix = prefix.parent
        return tokens[::-1]


class BeamSearch:
    """Searches one utterance at a time; holds the language model."""

    def __init__(self, settings: BeamSettings, vocabulary: Vocabulary) -> None:
        self._settings, self._vocabulary = settings, vocabulary
        self._fusion = Fusion(settings.lm, settings.hotwords, settings.weights)

    def reweighed(self, weights: Weights) -> BeamSearch:
        """The same search with other weights. The language model is shared, not loaded again."""
        other = copy.copy(self)
        other._settings = replace(self._settings, weights=weights)
        other._fusion = self._fusion.reweighed(weights)
        return other

    def search(self, log_probs_TV: F32, num_best: int = 1) -> list[Found]:
        """At most ``num_best`` texts, the best first, no text twice; an empty text for no frames."""
        return self.search_tried(self.tried(log_probs_TV), num_best)

    def search_tried(self, frames: Tried, num_best: int = 1) -> list[Found]:
        """:meth:`search` over what :meth:`tried` found."""
        root = _Prefix(-1, None, self._fusion.start)
        beam, scale = {root: (1.0, 0.0)}, 0.0
        for tried in frames:
            reached = self._advance(beam, tried)
            ranked = nlargest(
                self._settings.beam,
                [
                    (math.log(sums[0] + sums[1] + _LEAST) + prefix.fusion.total, place, prefix, sums)
                    for place, (prefix, sums) in enumerate(reached.items())
                ],
                key=_first,
            )
            # Scaled to 1 again, frame by frame, so that long utterances do not underflow.
            largest = max(sums[0] + sums[1] for _, _, _, sums in ranked)
            scale += math.log(largest)
            beam = {prefix: (sums[0] / largest, sums[1] / largest) for _, _, prefix, sums in ranked}
        return self._best(beam, scale, num_best)

    def _advance(
        self, beam: dict[_Prefix, tuple[float, float]], tried: list[tuple[int, float]]
    ) -> dict[_Prefix, list[float]]:
        """Sums of all paths to each prefix after one more frame: ending in a blank, and in its token."""
        blank = self._vocabulary.blank
        reached: dict[_Prefix, list[float]] = {}
        for prefix, (in_blank, in_token) in beam.items():
            whole = in_blank + in_token
            own = reached.get(prefix)
            if own is None:
                own = reached[prefix] = [0.0, 0.0]
            for token, prob in tried:
                if token == blank:
                    own[0] += whole * prob
                    continue
                if token == prefix.token:
                    own[1] += in_token * prob
                    added = in_blank * prob  # the same token anew: only behind a blank
                else:
                    added = whole * prob
                if added > 0.0:
                    child = prefix.children.get(token) or self._extend(prefix, token)
                    sums = reached.get(child)
                    if sums is None:
                        reached[child] = [0.0, added]
                    else:
                        sums[1] += added
        return reached

    def _extend(self, prefix: _Prefix, token: int) -> _Prefix:
        fusion = self._fusion.extend(prefix.fusion, self._vocabulary.spaced[token])
        child = prefix.children[token] = _Prefix(token, prefix, fusion)
        return child

    def _best(self, beam: dict[_Prefix, tuple[float, float]], scale: float, num_best: int) -> list[Found]:
        ended = [
            (scale + math.log(sum(sums) + _LEAST) + self._fusion.finish(prefix.fusion), prefix)
            for prefix, sums in beam.items()
        ]
        found: dict[str, Found] = {}
        for score, prefix in sorted(ended, key=_first, reverse=True):
            tokens = prefix.tokens()
            text = self._vocabulary.text(tokens)
            if text not in found:
                found[text] = Found(tokens, text, round(score, 4))
        return list(found.values())[:num_best]

    def tried(self, log_probs_TV: F32) -> Tried:
        """Tokens and their probabilities, for each frame that is searched: a small part of all."""
        kept_TV = log_probs_TV[self.searched_frames(log_probs_TV)]
        if not len(kept_TV):
            return []
        likely_TV = kept_TV >= math.log(self._settings.token_threshold)
        likely_TV[np.arange(len(kept_TV)), kept_TV.argmax(axis=1)] = True
        frames, tokens = likely_TV.nonzero()
        probs = np.exp(kept_TV[frames, tokens].astype(np.float64)).tolist()
        tried: Tried = [[] for _ in range(len(kept_TV))]
        for frame, token, prob in zip(frames.tolist(), tokens.tolist(), probs, strict=True):
            tried[frame].append((token, prob))
        return tried

    def searched_frames(self, log_probs_TV: F32) -> npt.NDArray[np.int64]:
        """Numbers of the frames that are searched.

        One blank of a row stays: between two equal tokens it is what parts them.
        """
        if self._settings.blank_skip >= 1.0:
            return np.arange(len(log_probs_TV))
        blank_T = log_probs_TV[:, self._vocabulary.blank] >= math.log(self._settings.blank_skip)
        skipped_T = blank_T.copy()
        skipped_T[1:] &= blank_T[:-1]
        skipped_T[:1] = False
        return np.flatnonzero(~skipped_T)


_first = itemgetter(0)
