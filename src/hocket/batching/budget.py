"""Cutting a list whole, by a budget of padded audio: for validation and recognition."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]


def cut_by_budget(num_frames: npt.ArrayLike, max_frames: int, max_utterances: int | None = None) -> list[I64]:
    """Positions of the list in micro-batches of at most ``max_frames`` padded frames, longest first.

    A function of the list and the budget alone. An utterance longer than the budget is a
    micro-batch of its own. Equal lengths keep the order of the list.
    """
    frames = np.asarray(num_frames, np.int64)
    order = np.argsort(-frames, kind="stable")
    parts: list[I64] = []
    start = 0
    while start < len(order):
        longest = max(int(frames[order[start]]), 1)
        size = max(1, max_frames // longest)
        if max_utterances is not None:
            size = min(size, max_utterances)
        parts.append(order[start : start + size].astype(np.int64))
        start += size
    return parts
