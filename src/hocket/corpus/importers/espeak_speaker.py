"""A process that speaks: requests as JSON lines on stdin, 16-bit samples on stdout.

Run as a script, ``espeak_speaker.py LIBRARY DATA``, with nothing but the standard library. espeak-ng
keeps state from one utterance to the next (noise, echo and wave phases) that no call resets, and it
seeds its own random numbers with the time of day. So each utterance is spoken by a fresh fork of this process
with a seed made of the request: its samples depend on its request alone, and the same requests give
the same bytes however they are dealt out.

An answer is ``<iI``: the sample rate (negative: failed) and the number of bytes, then the samples.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import sys
import zlib
from typing import Any

# Synchronous: espeak-ng then starts no thread, which a fork would lose.
_SYNCHRONOUS, _DONT_EXIT = 2, 0x8000
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_UTF8 = 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
HEADER = struct.Struct("<iI")


def _speak(library: ctypes.CDLL, request: dict[str, Any]) -> bytes | None:
    pieces: list[bytes] = []

    def take(samples: Any, num: int, events: Any) -> int:
        if samples and num > 0:
            pieces.append(ctypes.string_at(samples, 2 * num))
        return 0

    callback = _CALLBACK(take)
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(request["voice"].encode()) != 0:
        return None
    for parameter, name in ((_RATE, "rate"), (_VOLUME, "volume"), (_PITCH, "pitch"), (_RANGE, "range")):
        library.espeak_SetParameter(parameter, int(request[name]), 0)
    text = request["text"].encode() + b"\0"
    if library.espeak_Synth(text, ctypes.c_size_t(len(text)), 0, 1, 0, _UTF8, None, None) != 0:
        return None
    library.espeak_Synchronize()
    return b"".join(pieces)


def main() -> None:
    """Answer every request on stdin."""
    c_library = ctypes.CDLL(None)
    library = ctypes.CDLL(sys.argv[1])
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, sys.argv[2].encode(), _DONT_EXIT)
    out = sys.stdout.buffer
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            seed = zlib.crc32(line.encode())
            c_library.srand(seed)
            library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            samples = _speak(library, json.loads(line))
            if samples is None:
                os._exit(1)
            out.write(HEADER.pack(sample_rate, len(samples)) + samples)
            out.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status != 0:
            out.write(HEADER.pack(-1, 0))
            out.flush()


if __name__ == "__main__":
    main()
