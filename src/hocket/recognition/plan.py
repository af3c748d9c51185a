"""What a recognition job will compute, before it computes anything.

A function of the input list and the settings alone: the number of workers is no argument, so it
cannot change which utterances share a micro-batch, and so no transcript either.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hocket import batching
from hocket.core.errors import AudioError, UsageError
from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.recognition.items import Item
from hocket.recognition.messages import Lease

I64 = npt.NDArray[np.int64]

MAX_UTTERANCES = 256
"""Utterances of a micro-batch at most: what a worker is sent stays small."""

_PROBES = 16
"""Headers read at a time: on network storage each costs a round trip."""


@dataclass(frozen=True)
class Plan:
    """The micro-batches of a job over ``items``, largest first."""

    items: tuple[Item, ...]
    num_samples: I64
    """Samples of each item at 16 kHz; 0 where it cannot be read."""
    unreadable: dict[int, str]
    """Reasons by position among the items."""
    micro_batches: tuple[I64, ...]
    """Positions among the items; every readable item is in exactly one."""

    @property
    def num_frames(self) -> I64:
        """Feature frames of each item."""
        return self.num_samples // HOP

    def padded_frames(self, number: int) -> int:
        """Frames of a micro-batch with padding."""
        positions = self.micro_batches[number]
        return len(positions) * int(self.num_frames[positions].max())

    @property
    def padding(self) -> float:
        """Share of padding among all frames that are computed."""
        padded = sum(self.padded_frames(number) for number in range(len(self.micro_batches)))
        return 1.0 - int(self.num_frames.sum()) / padded if padded else 0.0

    def seconds(self, position: int) -> float:
        """Duration of an item in seconds."""
        return int(self.num_samples[position]) / audio.SAMPLE_RATE

    def lease(self, number: int) -> Lease:
        """A micro-batch as a worker gets it."""
        positions = self.micro_batches[number].tolist()
        return Lease(
            number=number,
            num_frames=int(self.num_frames[positions].max()),
            items=tuple(self.items[position] for position in positions),
            num_samples=tuple(self.num_samples[positions].tolist()),
        )


def make_plan(items: Sequence[Item], batch_seconds: float, max_utterances: int = MAX_UTTERANCES) -> Plan:
    """Measure what has no known length, and cut micro-batches of ``batch_seconds`` of padded audio.

    An utterance longer than that is a micro-batch of its own.
    """
    if not batch_seconds > 0:
        raise UsageError(f"batch seconds: {batch_seconds} is not above 0")
    if not 1 <= max_utterances <= MAX_UTTERANCES:
        raise UsageError(f"batch utterances: {max_utterances} is not between 1 and {MAX_UTTERANCES}")
    measured = list(items)
    num_samples = np.zeros(len(items), np.int64)
    unreadable: dict[int, str] = {}
    with ThreadPoolExecutor(_PROBES, thread_name_prefix="probe") as pool:
        for position, found in enumerate(pool.map(_measure, items)):
            if isinstance(found, str):
                unreadable[position] = found
            else:
                measured[position], num_samples[position] = found
    readable = np.flatnonzero(num_samples)
    max_frames = max(1, round(batch_seconds * audio.SAMPLE_RATE / HOP))
    parts = batching.cut_by_budget(num_samples[readable] // HOP, max_frames, max_utterances)
    return Plan(tuple(measured), num_samples, unreadable, tuple(readable[part] for part in parts))


def _measure(item: Item) -> tuple[Item, int] | str:
    """The item with its samples counted, and its length at 16 kHz; or the reason why it has none."""
    if item.problem is not None:
        return item.problem
    try:
        num_samples = item.num_samples_16k
        if num_samples is None:
            info = audio.probe(item.audio)
            item = _counted(item, info)
            num_samples = audio.resampled_samples(_extent(item, info), info.sample_rate)
    except AudioError as error:
        return str(error)
    if num_samples < HOP:
        return f"{item.audio}: {num_samples} samples at 16 kHz are less than one frame of 10 ms"
    return item, num_samples


def _counted(item: Item, info: audio.AudioInfo) -> Item:
    if item.sample_rate not in (None, info.sample_rate):
        raise AudioError(
            f"{item.audio}: {info.sample_rate} Hz, where its manifest says {item.sample_rate} Hz"
        )
    if item.part is None:
        return item
    start, duration = item.part
    return replace(
        item, start=round(start * info.sample_rate), num=round(duration * info.sample_rate), part=None
    )


def _extent(item: Item, info: audio.AudioInfo) -> int:
    """Samples of the item's part at the file's own rate."""
    if item.channel is not None and not 0 <= item.channel < info.channels:
        raise AudioError(f"{item.audio}: channel {item.channel} was asked for, the file has {info.channels}")
    num = info.num_samples - item.start if item.num is None else item.num
    if num <= 0 or item.start + num > info.num_samples:
        raise AudioError(
            f"{item.audio}: samples {item.start} to {item.start + num} were asked for, "
            f"the file has {info.num_samples}"
        )
    return num
