"""Greedy CTC: the best token of every frame, repeats merged, blanks left out.

Source: best path decoding in Graves et al., "Connectionist Temporal Classification", ICML 2006.
Shape suffixes: B utterances, T encoder frames, V tokens with blank.
"""

from __future__ import annotations

import torch

from hocket.decoding.paths import TokenPath


def greedy(logits_BTV: torch.Tensor, lens_B: torch.Tensor, blank: int) -> list[list[int]]:
    """Token ids of each utterance; see :func:`greedy_paths`."""
    return [path.tokens for path in greedy_paths(logits_BTV, lens_B, blank)]


def greedy_paths(logits_BTV: torch.Tensor, lens_B: torch.Tensor, blank: int) -> list[TokenPath]:
    """Tokens and their first and last frames, for each utterance of a batch.

    ``logits_BTV`` may be logits or log-probabilities on any device; of equal ones the smallest id
    wins on the CPU. Frames from ``lens_B`` on are padding. One transfer from the device per call.

    Raises :class:`ValueError` where the shapes do not belong together or a length exceeds T.
    """
    if logits_BTV.dim() != 3 or lens_B.shape != logits_BTV.shape[:1]:
        raise ValueError(f"logits {tuple(logits_BTV.shape)} and lengths {tuple(lens_B.shape)} do not match")
    if not 0 <= blank < logits_BTV.shape[-1]:
        raise ValueError(f"blank {blank} is not among {logits_BTV.shape[-1]} tokens")
    if logits_BTV.shape[0] == 0 or logits_BTV.shape[1] == 0:
        return [TokenPath([], [], []) for _ in range(len(logits_BTV))]
    return paths_of(logits_BTV.argmax(dim=-1), lens_B, blank)


def paths_of(best_BT: torch.Tensor, lens_B: torch.Tensor, blank: int) -> list[TokenPath]:
    """:func:`greedy_paths` of the best token of every frame."""
    num_utterances, num_frames = best_BT.shape
    if num_utterances == 0 or num_frames == 0:
        return [TokenPath([], [], []) for _ in range(num_utterances)]
    best_BT = best_BT.cpu()
    lens_B = lens_B.cpu()
    if int(lens_B.max()) > num_frames:
        raise ValueError(f"a length of {int(lens_B.max())} frames, where the batch has {num_frames}")
    said_BT = (best_BT != blank) & (torch.arange(num_frames)[None, :] < lens_B[:, None])
    changes_BT = best_BT[:, 1:] != best_BT[:, :-1]
    first_BT, last_BT = said_BT.clone(), said_BT.clone()
    first_BT[:, 1:] &= changes_BT
    last_BT[:, :-1] &= changes_BT | ~said_BT[:, 1:]
    tokens = best_BT[first_BT].tolist()
    starts, ends = first_BT.nonzero()[:, 1].tolist(), last_BT.nonzero()[:, 1].tolist()
    cuts = first_BT.sum(dim=1).cumsum(dim=0).tolist()
    return [
        TokenPath(tokens[low:high], starts[low:high], ends[low:high])
        for low, high in zip([0, *cuts], cuts, strict=False)
    ]
