"""Looking at every utterance before training: what its audio is, and whether it can be read.

Nothing here stops at a bad utterance: it becomes a :class:`LeftOut` with its reason.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hocket.comms import errands
from hocket.core import files
from hocket.core.errors import AudioError
from hocket.corpus import audio
from hocket.corpus.importers.base import Item, LeftOut, Progress

_CHUNK, _SMALL_CHUNK = 256, 32
_CHUNKS_WORTH_A_PROCESS = 4
_STAGE = "reading audio"


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
class _Job:
    pairs: Sequence[tuple[Item, str]]
    decode: bool


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
            progress(_STAGE, len(seen), len(todo))
    return seen


def look_apart(
    items: Iterable[tuple[Item, str]],
    decode: bool,
    progress: Progress,
    *,
    workers: int,
    staging: Path,
    made: Path,
) -> list[Seen | LeftOut]:
    """:func:`look` in ``workers`` processes; what ``staging`` holds of an earlier try is not looked at again.

    ``made`` is the folder of audio that the importer made: it is made anew, and the same, in every try.
    """
    todo = list(items)
    chunks = [todo[first : first + _SMALL_CHUNK] for first in range(0, len(todo), _SMALL_CHUNK)]
    digest = hashlib.sha256(repr(decode).encode())
    for item, text in todo:
        digest.update(repr((item, text, stamp(item.audio, made))).encode("utf-8", "surrogateescape"))
    answers = errands.run(
        staging / f"looked-{digest.hexdigest()[:16]}",
        f"{__name__}:look_at",
        [_Job(chunk, decode) for chunk in chunks],
        min(workers, max(1, len(chunks) // _CHUNKS_WORTH_A_PROCESS)),
        lambda done: progress(_STAGE, min(len(todo), done * _SMALL_CHUNK), len(todo)),
    )
    return [one for answer in answers for one in answer]


def look_at(job: _Job) -> list[Seen | LeftOut]:
    """One chunk, in a process of its own."""
    return [_look(item, text, job.decode) for item, text in job.pairs]


def stamp(path: Path, made: Path) -> tuple[int, int | str] | None:
    """By what a file is known to be the same: its size and the time it was written; None when it is gone.

    For what was made in the folder ``made`` the bytes count instead of the time.
    """
    try:
        status = path.stat()
        if path.is_relative_to(made):
            return status.st_size, files.sha256(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


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
