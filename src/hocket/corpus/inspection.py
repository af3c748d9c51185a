"""Why an utterance cannot be used for training: it is left out, with its reason, and nothing stops."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hocket.corpus import audio
from hocket.corpus.audio import HOP
from hocket.corpus.importers.base import LeftOut
from hocket.corpus.looking import Seen


@dataclass(frozen=True)
class Limits:
    """What training can use."""

    min_seconds: float
    max_seconds: float
    subsampling: int
    fastest_percent: int
    """The fastest speed factor that training will draw: it leaves the fewest frames."""


def too_little_or_much(seen: Seen, limits: Limits) -> LeftOut | None:
    """Why training cannot use the utterance's length or text at all, or None."""
    if seen.seconds < limits.min_seconds:
        return _left_out(
            seen, "too short", f"{seen.seconds:.2f} s, at least {limits.min_seconds:g} s are asked"
        )
    if seen.seconds > limits.max_seconds:
        return _left_out(
            seen, "too long", f"{seen.seconds:.2f} s, at most {limits.max_seconds:g} s are asked"
        )
    if not seen.text:
        return _left_out(seen, "no text", "the transcript is empty")
    return None


def not_alignable(seen: Seen, token_ids: list[int], limits: Limits) -> LeftOut | None:
    """Why CTC cannot align the tokens with the frames that are left after subsampling, or None.

    CTC needs a frame for each token, and one for a blank between two equal tokens.
    """
    repeats = sum(one == other for one, other in pairwise(token_ids))
    fastest = audio.perturbed_samples(seen.num_samples, limits.fastest_percent) // HOP
    frames = subsampled(fastest, limits.subsampling)
    needs = max(1, len(token_ids) + repeats)
    if needs <= frames:
        return None
    return _left_out(
        seen,
        "more tokens than frames",
        f"{len(token_ids)} tokens and {repeats} repeats need {needs} frames; {seen.seconds:.2f} s at speed "
        f"{limits.fastest_percent} % and {limits.subsampling}x subsampling give {frames}",
    )


def subsampled(num_frames: int, factor: int) -> int:
    """Frames after convolutions of stride 2 (kernel 3, padding 1) that make ``factor`` together."""
    while factor > 1:
        num_frames, factor = -(-num_frames // 2), factor // 2
    return num_frames


def _left_out(seen: Seen, kind: str, reason: str) -> LeftOut:
    return LeftOut(seen.item.id, seen.item.where, kind, reason, seen.item.split)
