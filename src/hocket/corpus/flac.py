"""FLAC that lies in memory, decoded by dr_flac: the samples that libsndfile gives, in about half its time.

dr_flac comes with miniaudio (the extra ``fast``). Whatever is not plain whole FLAC of at most 24 bits, and
all that is damaged, is left to libsndfile, which then says what is wrong with it.

Format: RFC 9639, section 8.2; dr_flac: https://github.com/mackron/dr_libs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

_MAGIC, _STREAM_INFO_END, _NUMBERS = b"fLaC", 42, slice(18, 26)
_MOST_BITS = 24
"""Of a sample, so that float32 holds it."""


def decode(data: bytes | memoryview, num: int | None = None) -> tuple[npt.NDArray[np.float32], int] | None:
    """Samples (N, C) of a whole FLAC file, and their rate in Hz; None where it is left to libsndfile.

    It is also left where fewer than half of the samples, ``num``, are asked for.
    """
    if len(data) < _STREAM_INFO_END or data[:4] != _MAGIC or data[4] & 0x7F != 0:
        return None
    numbers = int.from_bytes(data[_NUMBERS], "big")
    rate, channels, total = numbers >> 44, (numbers >> 41 & 7) + 1, numbers & (1 << 36) - 1
    if total == 0 or (num is not None and total > 2 * num) or (numbers >> 36 & 31) + 1 > _MOST_BITS:
        return None
    library = _library()
    if library is None:
        return None
    try:
        decoded = library.flac_read_f32(bytes(data))
    except library.DecodeError:
        return None
    x_N: npt.NDArray[np.float32] = np.frombuffer(decoded.samples, np.float32)
    if (decoded.sample_rate, decoded.nchannels, len(x_N)) != (rate, channels, total * channels):
        return None
    return x_N.reshape(-1, channels), rate


@cache
def _library() -> Any:
    try:
        import miniaudio
    except ImportError:
        return None
    return miniaudio
