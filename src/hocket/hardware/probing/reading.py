"""Read rates of a file: in a row or at random, past the system's memory of files or from it."""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Literal

from hocket.core import clock, seeds

Pattern = Literal["sequential", "random"]
PATTERNS: tuple[Pattern, ...] = ("sequential", "random")
Cache = Literal["cold", "warm"]
CACHES: tuple[Cache, ...] = ("cold", "warm")
REQUEST = {"sequential": 2**20, "random": 64 * 2**10}
"""Bytes of one read: a block, or about an utterance of compressed speech. Multiples of a page."""
ColdBy = Literal["O_DIRECT", "posix_fadvise"]
_STEP = 16 * 2**20


def write_file(path: Path, num_bytes: int) -> None:
    """Random bytes, which nothing on the way can compress, forced onto the disk."""
    random = seeds.generator("probe", "file")
    with path.open("wb") as file:
        for start in range(0, num_bytes, _STEP):
            file.write(random.bytes(min(_STEP, num_bytes - start)))
        file.flush()
        os.fsync(file.fileno())


def cold_by(path: Path) -> ColdBy:
    """How reads of this file can be kept from the system's memory of files."""
    direct = getattr(os, "O_DIRECT", None)
    if direct is None:
        return "posix_fadvise"
    try:
        descriptor = os.open(path, os.O_RDONLY | direct)
    except OSError:
        return "posix_fadvise"
    try:
        with mmap.mmap(-1, REQUEST["random"]) as buffer:
            os.preadv(descriptor, [buffer], 0)
    except OSError:
        return "posix_fadvise"
    finally:
        os.close(descriptor)
    return "O_DIRECT"


class Reader:
    """One of ``of`` readers of a file, each in a part of its own."""

    def __init__(self, path: Path, number: int, of: int, how: ColdBy) -> None:
        self._path, self._how = path, how
        largest = max(REQUEST.values())
        blocks = max(1, path.stat().st_size // largest // of)
        self._first, self._size = number * blocks * largest, blocks * largest
        self._in_memory = False
        self._passes = 0

    def rate(self, pattern: Pattern, warm: bool, seconds: float) -> float:
        """Bytes a second, until ``seconds`` are over or, where that would meet memory, the part is read."""
        request = REQUEST[pattern]
        places = range(self._first, self._first + self._size, request)
        order = list(places)
        if pattern == "random":
            self._passes += 1
            seeds.generator("probe", "places", self._passes).shuffle(order)
        flags = os.O_RDONLY
        if not warm and self._how == "O_DIRECT":
            flags |= os.O_DIRECT
        descriptor = os.open(self._path, flags)
        try:
            with mmap.mmap(-1, request) as buffer:  # aligned to a page, as O_DIRECT wants it
                # Other readers' cold reads drop pages where O_DIRECT is not to be had.
                if warm and not (self._in_memory and self._how == "O_DIRECT"):
                    for place in places:
                        os.preadv(descriptor, [buffer], place)
                    self._in_memory = True
                if not warm and self._how == "posix_fadvise":
                    os.posix_fadvise(descriptor, self._first, self._size, os.POSIX_FADV_DONTNEED)
                    if pattern == "random":
                        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead
                again = warm or self._how == "O_DIRECT"
                return self._read(descriptor, buffer, order, again, seconds)
        finally:
            os.close(descriptor)

    @staticmethod
    def _read(descriptor: int, buffer: mmap.mmap, order: list[int], again: bool, seconds: float) -> float:
        start, count = clock.monotonic(), 0
        while True:
            for place in order:
                count += os.preadv(descriptor, [buffer], place)
                took = clock.monotonic() - start
                if took > seconds:
                    return count / took
            if not again:
                return count / max(took, 1e-9)
