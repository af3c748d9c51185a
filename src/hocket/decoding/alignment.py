"""Forced alignment: which frames a known sequence of tokens took, on the best path of CTC.

Viterbi over the states blank, token, blank, token, ..., blank: Graves et al., "Connectionist temporal
classification", ICML 2006, with the best path instead of the sum.

Shape suffixes: T encoder frames, V tokens with blank, S = 2U + 1 states of a text of U tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hocket.decoding.paths import TokenPath

F32 = npt.NDArray[np.float32]


def align(log_probs_TV: F32, tokens: Sequence[int], blank: int) -> TokenPath | None:
    """First and last frame of each token on the best path; None where the frames cannot hold the tokens.

    Of equally good paths, the one whose tokens end later.
    """
    num_frames, num_states = len(log_probs_TV), 2 * len(tokens) + 1
    states_S = np.full(num_states, blank, np.int64)
    states_S[1::2] = tokens
    may_skip_S = np.zeros(num_states, bool)  # from two states before: another token, over the blank
    may_skip_S[3::2] = states_S[3::2] != states_S[1:-2:2]
    emitted_TS = log_probs_TV[:, states_S].astype(np.float64)
    score_S = np.full(num_states, -np.inf)
    came_TS = np.zeros((num_frames, num_states), np.int8)
    if num_frames == 0:
        return TokenPath([], [], []) if not tokens else None
    score_S[:2] = emitted_TS[0, :2]
    ways_3S = np.full((3, num_states), -np.inf)
    for frame in range(1, num_frames):
        ways_3S[0] = score_S
        ways_3S[1, 1:] = score_S[:-1]
        ways_3S[2, 2:] = np.where(may_skip_S[2:], score_S[:-2], -np.inf)
        came_TS[frame] = ways_3S.argmax(axis=0)
        score_S = ways_3S.max(axis=0) + emitted_TS[frame]
    state = num_states - 1
    if num_states > 1 and score_S[-2] > score_S[-1]:
        state = num_states - 2
    if not np.isfinite(score_S[state]):
        return None
    starts, ends = [0] * len(tokens), [-1] * len(tokens)
    for frame in range(num_frames - 1, -1, -1):
        if state % 2:
            token = state // 2
            starts[token] = frame
            ends[token] = max(ends[token], frame)
        state -= int(came_TS[frame, state])
    return TokenPath(list(tokens), starts, ends)
