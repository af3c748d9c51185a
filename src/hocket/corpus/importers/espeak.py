"""Speech from espeak-ng, out of the ``espeakng-loader`` wheel.

The library speaks in processes of its own (see ``espeak_speaker``): it holds global state, and a
process with threads is none to fork.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hocket.core.errors import CorpusError
from hocket.corpus.importers.espeak_speaker import HEADER

I16 = npt.NDArray[np.int16]


@dataclass(frozen=True)
class Request:
    """One utterance to speak."""

    text: str
    voice: str
    """A language and a variant, such as ``en-us+f3``."""
    rate: int
    """Words a minute, 80 to 450."""
    pitch: int
    """0 to 100, as are the next two."""
    range: int
    volume: int


def speak(requests: Sequence[Request]) -> Iterator[tuple[int, I16]]:
    """Sample rate in Hz and samples of each request, in order; what is spoken depends on it alone.

    Raises :class:`CorpusError` when espeak-ng is not installed or cannot speak a request.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise CorpusError(
            "the synthetic corpus needs the package espeakng-loader", "pip install espeakng-loader"
        ) from error
    # espeak-ng speaks a variant that it does not have with another voice, and says nothing.
    variants = Path(espeakng_loader.get_data_path()) / "voices" / "!v"
    for voice in {request.voice for request in requests}:
        if not (variants / voice.partition("+")[2]).is_file():
            raise CorpusError(f"this espeak-ng has no voice {voice}", "Use espeakng-loader 0.2.4 or later.")
    script = Path(__file__).with_name("espeak_speaker.py")
    command = [
        sys.executable,
        str(script),
        espeakng_loader.get_library_path(),
        espeakng_loader.get_data_path(),
    ]
    # Requests come from a file, not a pipe: who writes them and who reads the answers is one thread.
    with tempfile.TemporaryFile() as lines:
        lines.writelines((json.dumps(asdict(request)) + "\n").encode() for request in requests)
        lines.seek(0)
        process = subprocess.Popen(command, stdin=lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        for request in requests:
            header = process.stdout.read(HEADER.size)
            if len(header) < HEADER.size:
                said = process.stderr.read().decode(errors="replace").strip()
                raise CorpusError(
                    f"espeak-ng ended while speaking {request.text!r}: {said or 'no reason given'}"
                )
            sample_rate, num_bytes = HEADER.unpack(header)
            if sample_rate <= 0:
                raise CorpusError(f"espeak-ng cannot speak {request.text!r} with the voice {request.voice}")
            yield sample_rate, np.frombuffer(process.stdout.read(num_bytes), "<i2")
    finally:
        process.kill()
        process.communicate()
