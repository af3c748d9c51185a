"""The speech that a recognition is planned for: inputs as they are, or utterances of a typical length."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hocket.core import clock, seeds
from hocket.core.errors import AudioError, UsageError
from hocket.corpus import audio
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.features import LogMel
from hocket.planning.recognizing.speech import FRAMES_PER_SECOND, Speech
from hocket.recognition import inputs as named
from hocket.recognition.plan import BATCH_SECONDS, make_plan
from hocket.recognition.survey import survey

_READ = 4
"""Recordings that are read to see how long that takes."""
_READ_SECONDS = 20.0


@dataclass(frozen=True)
class Heard:
    """Speech, and what reading it takes."""

    speech: Speech
    reading: float
    """Seconds of a core for a second of audio: to read it, decode it and compute features."""
    note: str


def of_typical(utterance: float, hours: float | None, num_mel_bins: int) -> Heard:
    """Utterances of so many seconds, as FLAC at 16 kHz; reading is timed on noise."""
    mel = LogMel(num_mel_bins)
    with tempfile.TemporaryDirectory(prefix="hocket-") as temporary:
        path = Path(temporary) / "noise.flac"
        noise = 0.1 * seeds.generator("reading").standard_normal(round(_READ_SECONDS * SAMPLE_RATE))
        soundfile.write(path, noise.astype(np.float32), SAMPLE_RATE)
        reading = min(_reading(path, mel) for _ in range(_READ)) / _READ_SECONDS
    frames = np.array([max(1, round(FRAMES_PER_SECOND * utterance))], np.int64)
    note = f"utterances are taken to be {utterance:g} s long, as FLAC at 16 kHz"
    return Heard(Speech(frames, hours), reading, note)


def _reading(path: Path, mel: LogMel) -> float:
    began = clock.busy()
    mel(audio.read(path))
    return clock.busy() - began


def of_inputs(inputs: Sequence[str], longest: float, num_mel_bins: int) -> Heard:
    """Everything that ``inputs`` name, cut where longer than ``longest`` seconds, as a job would cut it.

    Raises :class:`UsageError` for inputs that are not there or of which nothing can be read.
    """
    mel = LogMel(num_mel_bins)
    items = named.collect(inputs)
    found = make_plan(survey(items, longest), BATCH_SECONDS)
    frames = found.num_frames[found.num_frames > 0]
    if not len(frames):
        raise UsageError("nothing of the input can be read", "hocket recognize lists why.")
    mel(np.zeros(SAMPLE_RATE, np.float32))  # makes tables
    taken, heard = 0.0, 0.0
    readable = np.flatnonzero(found.num_samples)
    for piece in readable[:: max(1, len(readable) // _READ)][:_READ].tolist():
        item = items[int(found.piece_item[piece])]
        num = int(found.piece_num[piece])
        began = clock.busy()
        try:
            start = int(found.piece_start[piece])
            mel(audio.read(item.audio, item.channel, start, None if num < 0 else num, item.member))
        except AudioError:
            continue
        taken += clock.busy() - began
        heard += int(found.num_samples[piece]) / SAMPLE_RATE
    hours = float(frames.sum()) / FRAMES_PER_SECOND / 3600
    note = f"{len(frames):,} utterances or pieces of them, {hours:,.3g} hours, with the lengths they have"
    return Heard(Speech(frames, hours, known=True), taken / max(heard, 1e-9), note)
