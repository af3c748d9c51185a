"""Whether an audio file is as long as its own header says.

Decoders are forgiving: libsndfile reads a WAV file cut in half as a shorter recording, and the words
at its end are silently gone. The containers here say their length, so a torn file can be told from
the file's size alone, without decoding. (FLAC and MP3 are told by decoding: ``audio.read``.)

Formats: RIFF/WAVE and RF64 (EBU Tech 3306), AIFF, Sun AU, NIST SPHERE, Ogg (RFC 3533).
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_UNKNOWN = (0, 0xFFFFFFFF)
"""Sizes that a program writes when it streams and cannot go back to say how long it was."""
_OGG_PAGE = 27 + 255 + 255 * 255


def truncation(path: Path) -> str | None:
    """Why the file is shorter than its header says, or None. Raises :class:`OSError`."""
    with path.open("rb") as file:
        return truncation_of(file, os.fstat(file.fileno()).st_size)


def truncation_of(file: BinaryIO, size: int) -> str | None:
    """:func:`truncation` of an open file of ``size`` bytes; leaves it at any position."""
    file.seek(0)
    head = file.read(64)
    magic = head[:4]
    if magic in (b"RIFF", b"RF64", b"RIFX"):
        return _chunks(file, head, size, ">" if magic == b"RIFX" else "<", b"data")
    if magic == b"FORM":
        return _chunks(file, head, size, ">", b"SSND")
    if magic == b".snd" and len(head) >= 12:
        start, length = struct.unpack(">II", head[4:12])
        return None if length in _UNKNOWN else _short(start + length, size)
    if head[:7] == b"NIST_1A":
        return _sphere(file, size)
    if magic == b"OggS":
        return _ogg(file, size)
    return None


def _short(says: int, size: int) -> str | None:
    return f"truncated: its header says {says} bytes, the file has {size}" if says > size else None


def _chunks(file: BinaryIO, head: bytes, size: int, order: str, audio: bytes) -> str | None:
    """Walk the chunks of a RIFF or AIFF file to the one with the samples."""
    position, long_size = 12, 0
    while True:
        file.seek(position)
        header = file.read(8)
        if len(header) < 8:
            return f"truncated: the file of {size} bytes ends before its {audio.decode()} chunk"
        name = header[:4]
        (length,) = struct.unpack(order + "I", header[4:])
        if name == b"ds64":
            (long_size,) = struct.unpack("<8xQ", file.read(16))
        if name == audio:
            if head[:4] == b"RF64" and length == 0xFFFFFFFF and long_size:
                length = long_size
            return None if length in _UNKNOWN else _short(position + 8 + length, size)
        position += 8 + length + length % 2


def _sphere(file: BinaryIO, size: int) -> str | None:
    file.seek(0)
    lines = file.read(1024).decode("latin-1").split("\n")
    fields = {parts[0]: parts[2] for line in lines if len(parts := line.split(None, 2)) == 3}
    try:
        header = int(lines[1])
        count = int(fields["sample_count"]) * int(fields.get("channel_count", 1))
        width = int(fields["sample_n_bytes"])
    except (KeyError, ValueError, IndexError):
        return None
    if fields.get("sample_coding", "pcm").split(",")[0] not in ("pcm", "ulaw", "alaw"):
        return None
    return _short(header + count * width, size)


def _ogg(file: BinaryIO, size: int) -> str | None:
    """The last page of an Ogg file must end where the file ends."""
    file.seek(max(0, size - _OGG_PAGE))
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return "truncated: its last Ogg page has no header"
    header = tail[page : page + 27]
    if len(header) < 27:
        return "truncated: it ends inside an Ogg page header"
    segments = tail[page + 27 : page + 27 + header[26]]
    needs = 27 + header[26] + sum(segments)
    has = len(tail) - page
    if len(segments) < header[26] or has < needs:
        return f"truncated: its last Ogg page says {needs} bytes, the file has {has} of them"
    return None
