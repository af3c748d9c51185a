"""What a recognition job will compute, before it computes anything.

A function of the inputs and the settings alone: the number of workers is no argument, so it cannot
change which pieces share a micro-batch, and so no transcript either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hocket import batching
from hocket.core.errors import UsageError
from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.recognition.items import Item, ItemList
from hocket.recognition.messages import Lease
from hocket.recognition.survey import Survey

I64 = npt.NDArray[np.int64]

BATCH_SECONDS = 30.0
"""Padded audio of a micro-batch where nobody says otherwise: what a CPU's caches bear. A GPU takes more."""
MAX_UTTERANCES = 256
"""Pieces of a micro-batch at most: what a worker is sent stays small."""


@dataclass(frozen=True)
class Plan:
    """The micro-batches of a job, largest first, over the pieces of its items.

    Every item has its pieces in order, one of them where it is no longer than the model's range; an item
    that cannot be read has a single piece of no samples, which is in no micro-batch.
    """

    items: ItemList
    unreadable: dict[int, str]
    """Reasons by position among the items."""
    piece_item: I64
    """Item of each piece, ascending."""
    piece_start: I64
    """First sample of each piece at its file's own rate."""
    piece_num: I64
    """Samples of each piece at its file's own rate; -1 for all from the start on."""
    num_samples: I64
    """Samples of each piece at 16 kHz; 0 where it cannot be read."""
    micro_batches: tuple[I64, ...]
    """Pieces; every readable one is in exactly one micro-batch."""

    @property
    def num_frames(self) -> I64:
        """Feature frames of each piece."""
        return self.num_samples // HOP

    def frames(self, number: int) -> int:
        """Frames that the pieces of a micro-batch are padded to."""
        return int(self.num_samples[self.micro_batches[number]].max()) // HOP

    def padded_frames(self, number: int) -> int:
        """Frames of a micro-batch with padding."""
        return len(self.micro_batches[number]) * self.frames(number)

    @property
    def padding(self) -> float:
        """Share of padding among all frames that are computed."""
        padded = sum(self.padded_frames(number) for number in range(len(self.micro_batches)))
        return 1.0 - int(self.num_frames.sum()) / padded if padded else 0.0

    def seconds(self, piece: int) -> float:
        """Duration of a piece in seconds."""
        return int(self.num_samples[piece]) / audio.SAMPLE_RATE

    def pieces(self, position: int) -> range:
        """The pieces of an item."""
        first, end = np.searchsorted(self.piece_item, (position, position + 1))
        return range(int(first), int(end))

    def lease(self, number: int) -> Lease:
        """A micro-batch as a worker gets it."""
        pieces = self.micro_batches[number].tolist()
        return Lease(
            number=number,
            num_frames=self.frames(number),
            items=tuple(self._piece(piece) for piece in pieces),
            num_samples=tuple(self.num_samples[pieces].tolist()),
        )

    def name(self, piece: int) -> str:
        """What an error calls a piece: its file, and where in it where that is not all of it."""
        item = self.items[int(self.piece_item[piece])]
        pieces = self.pieces(int(self.piece_item[piece]))
        if len(pieces) == 1:
            return str(item.audio)
        start = sum(self.seconds(before) for before in range(pieces.start, piece))
        return f"{item.audio}: {start:.2f} to {start + self.seconds(piece):.2f} s"

    def _piece(self, piece: int) -> Item:
        item = self.items[int(self.piece_item[piece])]
        num = int(self.piece_num[piece])
        return replace(item, start=int(self.piece_start[piece]), num=None if num < 0 else num)


def make_plan(survey: Survey, batch_seconds: float, max_utterances: int = MAX_UTTERANCES) -> Plan:
    """Cut micro-batches of ``batch_seconds`` of padded audio.

    A piece longer than that is a micro-batch of its own.
    """
    if not batch_seconds > 0:
        raise UsageError(f"batch seconds: {batch_seconds} is not above 0")
    if not 1 <= max_utterances <= MAX_UTTERANCES:
        raise UsageError(f"batch utterances: {max_utterances} is not between 1 and {MAX_UTTERANCES}")
    readable = np.flatnonzero(survey.num_samples)
    max_frames = max(1, round(batch_seconds * audio.SAMPLE_RATE / HOP))
    parts = batching.cut_by_budget(survey.num_samples[readable] // HOP, max_frames, max_utterances)
    return Plan(
        items=survey.items,
        unreadable=survey.unreadable,
        piece_item=survey.piece_item,
        piece_start=survey.piece_start,
        piece_num=survey.piece_num,
        num_samples=survey.num_samples,
        micro_batches=tuple(readable[part] for part in parts),
    )
