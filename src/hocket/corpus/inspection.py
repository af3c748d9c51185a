"""Looking at every utterance before training: what it is, and why it cannot be used.

Nothing here stops at a bad utterance: it becomes a :class:`LeftOut` with its reason.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from hocket.core.errors import AudioError
from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.corpus.importers.base import Item, LeftOut, Progress

_CHUNK = 256


@dataclass(frozen=True)
class Seen:
    """An utterance whose audio can be read, with its text normalised."""

    item: Item
    info: audio.AudioInfo
    text: str
    start: int
    """At the file's own rate, as ``num``."""
    num: int

    @property
    def num_samples(self) -> int:
        """At 16 kHz."""
        return audio.resampled_samples(self.num, self.info.sample_rate)

    @property
    def seconds(self) -> float:
        """Length of the utterance."""
        return self.num / self.info.sample_rate


@dataclass(frozen=True)
class Limits:
    """What training can use."""

    min_seconds: float
    max_seconds: float
    subsampling: int
    fastest_percent: int
    """The fastest speed factor that training will draw: it leaves the fewest frames."""


def look(items: Iterable[tuple[Item, str]], decode: bool, progress: Progress) -> list[Seen | LeftOut]:
    """Look at the audio of each (item, text), several at a time; answers in the order of the items.

    ``decode`` reads all samples, which finds every torn or damaged file; without it the header and
    the file's size are read.
    """
    todo = list(items)
    seen: list[Seen | LeftOut] = []
    with ThreadPoolExecutor(min(16, 2 * (os.cpu_count() or 1))) as pool:
        for first in range(0, len(todo), _CHUNK):
            chunk = todo[first : first + _CHUNK]
            seen.extend(pool.map(lambda pair: _look(pair[0], pair[1], decode), chunk))
            progress("reading audio", len(seen), len(todo))
    return seen


def _look(item: Item, text: str, decode: bool) -> Seen | LeftOut:
    try:
        info = audio.probe(item.audio)
        start, num = 0, info.num_samples
        if item.start_seconds is not None and item.duration_seconds is not None:
            start = round(item.start_seconds * info.sample_rate)
            num = round(item.duration_seconds * info.sample_rate)
        if decode:
            audio.check(item.audio, item.channel, start, num)
        else:
            audio.check_extent(item.audio, info, item.channel, start, num)
    except AudioError as error:
        return LeftOut(item.id, item.where, "unreadable audio", str(error), item.split)
    return Seen(item, info, text, start, num)


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
