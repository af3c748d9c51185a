"""FLAC, decoded by dr_flac: the samples that libsndfile gives, in about 0.6 of its time.

dr_flac comes with miniaudio (the extra ``fast``). Whatever is not plain whole FLAC of at most 24 bits, and
all that is damaged, is left to libsndfile, which then says what is wrong with it.

Format: RFC 9639, section 8.2; dr_flac: https://github.com/mackron/dr_libs.
"""

from __future__ import annotations

import stat
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_MAGIC, _STREAM_INFO_END, _NUMBERS = b"fLaC", 42, slice(18, 26)
_MOST_BITS = 24
"""Of a sample, so that float32 holds it."""

Decoded = tuple[npt.NDArray[np.float32], int]
"""Samples (N, C), and their rate in Hz."""


def read(path: Path, member: tuple[int, int] | None, num: int | None = None) -> Decoded | None:
    """:func:`decode` of a file, or of the ``member`` that begins at one of its bytes and has so many."""
    try:
        if _library() is None or not stat.S_ISREG(path.stat().st_mode):
            return None
        with path.open("rb") as file:
            start, size = member or (0, -1)
            file.seek(start)
            if _shape(file.read(_STREAM_INFO_END), num) is None:
                return None
            file.seek(start)
            return decode(file.read(size), num)
    except OSError:
        return None


def decode(data: bytes | memoryview, num: int | None = None) -> Decoded | None:
    """Samples of a whole FLAC file in memory; None where it is left to libsndfile.

    It is also left where fewer than half of the samples, ``num``, are asked for.
    """
    shape, library = _shape(data, num), _library()
    if shape is None or library is None:
        return None
    rate, channels, total = shape
    try:
        decoded = library.flac_read_f32(bytes(data))
    except library.DecodeError:
        return None
    x_N: npt.NDArray[np.float32] = np.frombuffer(decoded.samples, np.float32)
    if (decoded.sample_rate, decoded.nchannels, len(x_N)) != (rate, channels, total * channels):
        return None
    return x_N.reshape(-1, channels), rate


def _shape(data: bytes | memoryview, num: int | None) -> tuple[int, int, int] | None:
    """Rate in Hz, channels and samples by the first bytes; None for what is not to be decoded here."""
    if len(data) < _STREAM_INFO_END or data[:4] != _MAGIC or data[4] & 0x7F != 0:
        return None
    numbers = int.from_bytes(data[_NUMBERS], "big")
    rate, channels, total = numbers >> 44, (numbers >> 41 & 7) + 1, numbers & (1 << 36) - 1
    if total == 0 or (num is not None and total > 2 * num) or (numbers >> 36 & 31) + 1 > _MOST_BITS:
        return None
    return rate, channels, total


@cache
def _library() -> Any:
    try:
        import miniaudio
    except ImportError:
        return None
    return miniaudio
