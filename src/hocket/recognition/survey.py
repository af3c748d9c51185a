"""Looking at every input before a job: how long it is, and where it is cut if it is too long.

Headers are read and nothing is decoded, but for recordings longer than the model's range: those are
decoded once, in little memory, to find their silences.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hocket.core.errors import AudioError, UsageError
from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.recognition import silence
from hocket.recognition.items import Item, ItemList

I64 = npt.NDArray[np.int64]

_PROBES = 16
"""Headers read at a time: on network storage each costs a round trip."""
_CHUNK = 4096
"""Items handed to the pool at a time."""
_BLOCK = 1 << 18
"""Samples decoded at a time while silences are looked for."""

SHORTEST_PIECES = 2.0
"""Seconds: no range of a model is shorter."""


@dataclass(frozen=True)
class Survey:
    """What was found, in the order of the input; see :class:`~hocket.recognition.plan.Plan`."""

    items: ItemList
    unreadable: dict[int, str]
    piece_item: I64
    piece_start: I64
    piece_num: I64
    num_samples: I64
    sha256: str
    """Of all items as they were asked for, with size and time of change of their files."""


def survey(items: Iterable[Item], max_seconds: float) -> Survey:
    """Measure what has no known length; cut what is longer than ``max_seconds`` at silences."""
    if not max_seconds >= SHORTEST_PIECES:
        raise UsageError(f"max seconds: {max_seconds} is below {SHORTEST_PIECES:g}")
    measured = ItemList()
    unreadable: dict[int, str] = {}
    columns = [array("q") for _ in range(4)]
    digest = hashlib.sha256()
    waiting = iter(items)
    with ThreadPoolExecutor(_PROBES, thread_name_prefix="probe") as pool:
        while chunk := list(itertools.islice(waiting, _CHUNK)):
            looks = pool.map(lambda item: _look(item, max_seconds), chunk)
            for item, found in zip(chunk, looks, strict=True):
                digest.update(found.identity)
                if found.problem is not None:
                    unreadable[len(measured)] = found.problem
                for row in found.pieces:
                    for column, value in zip(columns, (len(measured), *row), strict=True):
                        column.append(value)
                measured.append(found.item or item)
    piece_item, start, num, num_samples = (np.array(column, np.int64) for column in columns)
    return Survey(measured, unreadable, piece_item, start, num, num_samples, digest.hexdigest())


@dataclass(frozen=True)
class _Found:
    identity: bytes
    pieces: list[tuple[int, int, int]]
    """First sample and number of samples at the file's own rate, and samples at 16 kHz."""
    item: Item | None = None
    problem: str | None = None


def _look(item: Item, max_seconds: float) -> _Found:
    identity = _identity(item)
    if item.problem is not None:
        return _Found(identity, [(0, -1, 0)], problem=item.problem)
    try:
        item, pieces = _measure(item, max_seconds)
    except AudioError as error:
        return _Found(identity, [(0, -1, 0)], problem=str(error))
    return _Found(identity, pieces, item)


def _identity(item: Item) -> bytes:
    """What must be the same for an answer to hold."""
    try:
        status = item.audio.stat()
        file: tuple[int, int] | None = (status.st_size, status.st_mtime_ns)
    except OSError:
        file = None
    asked = (item.id, str(item.audio), item.member, item.channel, item.start, item.num, item.part)
    return repr((*asked, item.problem, file)).encode("utf-8", "surrogateescape")


def _measure(item: Item, max_seconds: float) -> tuple[Item, list[tuple[int, int, int]]]:
    """The item with its samples counted, and its pieces; :class:`AudioError` says why it has none."""
    num_samples, num, rate = item.num_samples_16k, item.num, item.sample_rate
    if num_samples is None or (num is None and num_samples > max_seconds * audio.SAMPLE_RATE):
        info = audio.probe(item.audio, item.member)
        item, rate = _counted(item, info), info.sample_rate
        num = _extent(item, info)
        num_samples = audio.resampled_samples(num, rate)
    if num_samples < HOP:
        raise AudioError(f"{item.audio}: {num_samples} samples at 16 kHz are less than one frame of 10 ms")
    if num_samples <= max_seconds * audio.SAMPLE_RATE or num is None or rate is None:
        return item, [(item.start, -1 if item.num is None else item.num, num_samples)]
    step = silence.step_of(rate)
    blocks = audio.mono_blocks(item.audio, item.channel, item.start, num, item.member, _BLOCK)
    places = silence.cuts(silence.powers(blocks, step), int(max_seconds * rate) // step)
    edges = [0, *(place * step for place in places), num]
    if num - edges[-2] < HOP * rate // audio.SAMPLE_RATE + 1:
        del edges[-2]  # less than a frame at the end goes with the piece before
    sizes = [end - start for start, end in itertools.pairwise(edges)]
    return item, [
        (item.start + start, size, audio.resampled_samples(size, rate))
        for start, size in zip(edges, sizes, strict=False)
    ]


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
