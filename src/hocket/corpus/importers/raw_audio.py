"""Audio without a header: 16-bit samples, whose byte order is told from the samples themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from hocket.core.errors import AudioError, CorpusError

ByteOrder = Literal["<", ">"]
"""numpy's: little-endian, big-endian."""
NAMES: dict[ByteOrder, str] = {"<": "little-endian", ">": "big-endian"}
_LOOKED_AT = 16


def byte_order(paths: Sequence[Path]) -> ByteOrder:
    """The order in which these files, all of one kind, are the smoother: speech is, bytes swapped are not.

    Some of the files are looked at. Raises :class:`CorpusError` when neither order is smoother.
    """
    rough: dict[ByteOrder, float] = {"<": 0.0, ">": 0.0}
    for path in paths[:: max(1, len(paths) // _LOOKED_AT)]:
        data = path.read_bytes()
        for order in rough:
            samples_N = np.frombuffer(data, order + "i2", len(data) // 2).astype(np.int64)
            rough[order] += float(np.abs(np.diff(samples_N)).sum())
    if rough["<"] == rough[">"]:
        raise CorpusError(
            f"{paths[0]} and {len(paths) - 1} others: the byte order of this raw audio cannot be told",
            "Convert it to WAV or FLAC.",
        )
    return "<" if rough["<"] < rough[">"] else ">"


def to_flac(raw: Path, out: Path, sample_rate: int, order: ByteOrder) -> None:
    """Write the same samples as FLAC, which loses nothing.

    Raises :class:`AudioError` for a file that is missing, empty, or ends within a sample.
    """
    try:
        data = raw.read_bytes()
    except OSError as error:
        raise AudioError(f"{raw}: {error.strerror}") from error
    if not data:
        raise AudioError(f"{raw}: the file is empty")
    if len(data) % 2:
        raise AudioError(f"{raw}: truncated: {len(data)} bytes are no whole number of 16-bit samples")
    out.parent.mkdir(parents=True, exist_ok=True)
    samples_N = np.frombuffer(data, order + "i2").astype(np.int16)
    soundfile.write(out, samples_N, sample_rate, format="FLAC", subtype="PCM_16")
