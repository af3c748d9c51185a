"""Ogg files without the number that a library drew for them, so that the same audio is the same bytes.

Every page of an Ogg stream carries the stream's number, which libsndfile draws from the time of day, and a
checksum of the page. Format: RFC 3533.
"""

from __future__ import annotations

import struct
import zlib

_HEAD = struct.Struct("<4sBBqIIIB")
"""Capture pattern, version, type, position, number of the stream, of the page, checksum, segments."""
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def numbered(data: bytes, number: int) -> bytes:
    """An Ogg file of one stream under another ``number``, of 32 bits.

    Raises :class:`ValueError` for what is no Ogg file.
    """
    pages, begin = [], 0
    while begin < len(data):
        if data[begin : begin + 4] != b"OggS":
            raise ValueError(f"byte {begin} begins no page of an Ogg stream")
        *head, _number, page, _checksum, num_segments = _HEAD.unpack_from(data, begin)
        body = begin + _HEAD.size
        end = body + num_segments + sum(data[body : body + num_segments])
        whole = _HEAD.pack(*head, number, page, 0, num_segments) + data[body:end]
        pages.append(_HEAD.pack(*head, number, page, _checksum_of(whole), num_segments) + data[body:end])
        begin = end
    return b"".join(pages)


def _checksum_of(page: bytes) -> int:
    """CRC-32 as Ogg has it: zlib's with every byte and the result mirrored, from 0, and not inverted."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)
