"""What a worker does with a micro-batch: read its audio, recognise it, say what went wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch

from hocket.core import clock
from hocket.core.errors import AudioError
from hocket.corpus import audio
from hocket.corpus.features import HOP
from hocket.hardware.device import fix_arithmetic
from hocket.hardware.memory import keep_freed_memory
from hocket.recognition.items import Item
from hocket.recognition.messages import Lease, Start
from hocket.recognition.recognizer import Precision, Recognizer


@dataclass(frozen=True)
class Loaded:
    """Features (T, F) of the items that could be read, by position; reasons of the others."""

    features: dict[int, torch.Tensor]
    reasons: dict[int, str]
    seconds: float


@dataclass(frozen=True)
class Answer:
    """A text or a reason for each item of a micro-batch."""

    texts: tuple[str | None, ...]
    reasons: tuple[str, ...]
    encode_seconds: float
    decode_seconds: float


class Engine:
    """A :class:`Recognizer` in a process of its own, with arithmetic fixed for the process's life."""

    def __init__(self, start: Start) -> None:
        fix_arithmetic(start.threads)
        keep_freed_memory()
        precision = cast(Precision, start.precision)
        self._recognizer = Recognizer.load(start.model_folder, start.device, precision, start.slot)

    @torch.inference_mode()
    def load(self, lease: Lease) -> Loaded:
        """Read the audio of a micro-batch and compute its features."""
        began = clock.monotonic()
        features: dict[int, torch.Tensor] = {}
        reasons: dict[int, str] = {}
        for position, (item, num_samples) in enumerate(zip(lease.items, lease.num_samples, strict=True)):
            try:
                features[position] = self._recognizer.features(_read(item, num_samples))
            except AudioError as error:
                reasons[position] = str(error)
        return Loaded(features, reasons, clock.monotonic() - began)

    def recognize(self, lease: Lease, loaded: Loaded) -> Answer:
        """Texts of what was loaded. What does not fit into memory is a reason, not an end."""
        reasons = dict(loaded.reasons)
        texts: dict[int, str] = {}
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
                for position, text in zip(loaded.features, found.texts, strict=True):
                    if text is None:
                        reasons[position] = f"{lease.items[position].audio}: the model's output is not finite"
                    else:
                        texts[position] = text
        places = range(len(lease.items))
        return Answer(
            tuple(texts.get(place) for place in places),
            tuple(reasons.get(place, "") for place in places),
            encode_seconds,
            decode_seconds,
        )


def _read(item: Item, num_samples: int) -> audio.Samples:
    waveform = audio.read(item.audio, item.channel, item.start, item.num)
    if len(waveform) != num_samples:
        raise AudioError(
            f"{item.audio}: {len(waveform)} samples at 16 kHz, where {num_samples} were expected: "
            "has the file changed?"
        )
    return waveform


def _out_of_memory(error: BaseException) -> bool:
    """Torch reports memory that the host refuses as a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
