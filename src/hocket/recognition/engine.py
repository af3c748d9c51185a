"""What a worker does with a micro-batch: have it read, recognise it, say what went wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.decoding import Transcript
from hocket.hardware.device import fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.recognition import group
from hocket.recognition.messages import Lease, Start
from hocket.recognition.reading import Loaded, Readers
from hocket.recognition.recognizer import Recognizer


@dataclass(frozen=True)
class Answer:
    """A transcript or a reason for each item of a micro-batch."""

    transcripts: tuple[Transcript | None, ...]
    reasons: tuple[str, ...]
    encode_seconds: float
    decode_seconds: float


class Engine:
    """A :class:`Recognizer` in a process of its own, with arithmetic fixed for the process's life."""

    def __init__(self, start: Start) -> None:
        fix_arithmetic(start.threads)
        keep_freed_memory()
        encoder, vocabulary = group.load(start, 0)
        if start.sp > 1:
            encoder = group.GroupEncoder(encoder, start)
        self._recognizer = Recognizer(encoder, vocabulary, search=start.search)

        self._readers = Readers(self._recognizer.features, start.readers)

    def load(self, lease: Lease) -> Loaded:
        """Read the audio of a micro-batch and compute its features."""
        return self._readers.load(lease)

    def keep_up(self, loaded: Loaded, answer: Answer) -> None:
        """Size reading by what a micro-batch took."""
        self._readers.keep_up(loaded.seconds, answer.encode_seconds + answer.decode_seconds)

    def recognize(self, lease: Lease, loaded: Loaded) -> Answer:
        """Transcripts of what was loaded. What does not fit into memory is a reason, not an end."""
        reasons = dict(loaded.reasons)
        transcripts: dict[int, Transcript] = {}
        encode_seconds = decode_seconds = 0.0
        if loaded.features:
            try:
                found = self._recognizer.recognize(list(loaded.features.values()), lease.num_frames)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                num = len(loaded.features)
                seconds = num * lease.num_frames * HOP / audio.SAMPLE_RATE
                for position in loaded.features:
                    reasons[position] = (
                        f"out of memory in a micro-batch of {num} utterances and {seconds:.1f} s "
                        "of padded audio: use smaller batch seconds, or cut long audio"
                    )
            else:
                encode_seconds, decode_seconds = found.encode_seconds, found.decode_seconds
                for position, transcript in zip(loaded.features, found.transcripts, strict=True):
                    if transcript is None:
                        reasons[position] = f"{lease.items[position].audio}: the model's output is not finite"
                    else:
                        transcripts[position] = transcript
        places = range(len(lease.items))
        return Answer(
            tuple(transcripts.get(place) for place in places),
            tuple(reasons.get(place, "") for place in places),
            encode_seconds,
            decode_seconds,
        )


def _out_of_memory(error: BaseException) -> bool:
    """Torch reports memory that the host refuses as a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
