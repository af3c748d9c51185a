"""What is to be recognised: utterances of known or typical lengths, and how they share micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

import numpy as np
import numpy.typing as npt

from hocket import batching

I64 = npt.NDArray[np.int64]
FRAMES_PER_SECOND = 100
"""Frames of features."""
_LOOKED_AT = 200
"""Micro-batches of a job, at most."""


@dataclass(frozen=True)
class Part:
    """Micro-batches that are alike."""

    rows: int
    frames: int
    """That each row is padded to."""
    audio_seconds: float
    """Of one of them, without padding."""
    times: int = 1


@dataclass(frozen=True)
class Speech:
    """Lengths of utterances, and how many there are."""

    num_frames: I64
    """Of each utterance, or of one that stands for all."""
    hours: float | None = None
    """Of all speech; None where it never ends."""
    known: bool = False
    """The lengths are those of the very utterances that are to be recognised."""
    most_rows: int = 256
    """Utterances of a micro-batch at most."""

    @property
    def mean_seconds(self) -> float:
        """Of an utterance."""
        return float(self.num_frames.mean()) / FRAMES_PER_SECOND

    @property
    def longest(self) -> int:
        """Frames of the longest utterance."""
        return int(self.num_frames.max())

    @cached_property
    def alone(self) -> Speech:
        """The same where no two utterances share a micro-batch."""
        return replace(self, most_rows=1)

    def cut(self, batch_seconds: float) -> Sequence[Part]:
        """The micro-batches of ``batch_seconds`` of padded audio, as a job cuts them, the longest first.

        Where lengths are not known all are of the same, and there is a micro-batch or as many as the hours
        make.
        """
        if batch_seconds not in self._cuts:
            self._cuts[batch_seconds] = self._cut(batch_seconds)
        return self._cuts[batch_seconds]

    @cached_property
    def _cuts(self) -> dict[float, Sequence[Part]]:
        return {}

    def _cut(self, batch_seconds: float) -> Sequence[Part]:
        most = max(1, round(batch_seconds * FRAMES_PER_SECOND))
        if self.known:
            parts = batching.cut_by_budget(self.num_frames, most, self.most_rows)
            return _alike([self.num_frames[part] for part in parts])
        frames = self.longest
        rows = max(1, min(self.most_rows, most // frames))
        seconds = rows * frames / FRAMES_PER_SECOND
        times = 1 if self.hours is None else ceil(3600 * self.hours / seconds)
        return [Part(rows, frames, seconds, times)]

    @cached_property
    def one_by_one(self) -> Sequence[Part]:
        """Every utterance by itself: at most a hundred of them stand for all."""
        chosen = np.sort(self.num_frames)[:: max(1, len(self.num_frames) // 100)]
        return [Part(1, frames, frames / FRAMES_PER_SECOND) for frames in chosen.tolist()]


def _alike(parts: Sequence[I64]) -> list[Part]:
    """Neighbours in the order of lengths are nearly alike: of many, the middle one stands for some."""
    each = ceil(len(parts) / _LOOKED_AT)
    found = []
    for start in range(0, len(parts), each):
        group = parts[start : start + each]
        middle = group[len(group) // 2]
        audio = sum(int(part.sum()) for part in group) / FRAMES_PER_SECOND
        found.append(Part(len(middle), int(middle.max()), audio / len(group), len(group)))
    return found
