"""A path through the frames of an utterance, and the words it says: when, and how surely.

Shape suffixes: T encoder frames, V tokens with blank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hocket.core.transcript import Word
from hocket.decoding.vocabulary import Vocabulary

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenPath:
    """Tokens and, for each, its first and its last encoder frame."""

    tokens: list[int]
    starts: list[int]
    ends: list[int]

    @staticmethod
    def of_frames(frame_tokens: Sequence[int], blank: int, frames: Sequence[int] | None = None) -> TokenPath:
        """The path whose best token of each frame is given; repeats are one token, blanks none.

        ``frames`` are the numbers of the frames where some were left out.
        """
        path, before = TokenPath([], [], []), blank
        for place, token in enumerate(frame_tokens):
            frame = place if frames is None else frames[place]
            if token != blank:
                if token != before:
                    path.tokens.append(token)
                    path.starts.append(frame)
                    path.ends.append(frame)
                path.ends[-1] = frame
            before = token
        return path


def words(
    path: TokenPath, log_probs_TV: F32, vocabulary: Vocabulary, frame_seconds: float
) -> tuple[Word, ...]:
    """The words of a path, with times and confidences.

    A word begins with the first frame of its first token and ends behind the last frame of its last.
    Its confidence is that of its least sure token, a token's is its greatest probability on its frames:
    the minimum over tokens told right from wrong words best in Laptev & Ginsburg, "Fast entropy-based
    methods of word-level confidence estimation for end-to-end ASR", SLT 2022.
    """
    found = []
    for text, places in vocabulary.words(path.tokens):
        best = [
            float(log_probs_TV[path.starts[place] : path.ends[place] + 1, path.tokens[place]].max())
            for place in places
        ]
        start, end = path.starts[places[0]], path.ends[places[-1]] + 1
        found.append(
            Word(
                text,
                round(start * frame_seconds, 3),
                round(end * frame_seconds, 3),
                round(float(np.exp(min(best))), 4),
            )
        )
    return tuple(found)
