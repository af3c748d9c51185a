"""From the files of a micro-batch to its features, by as many threads as the encoder needs to be fed.

Threads of the worker itself, so that features are shared and never copied; decoding, resampling and
Fourier transforms let go of the interpreter's lock. Each utterance is read by one thread alone, so how
many there are changes no answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from hocket.core import clock
from hocket.core.errors import AudioError
from hocket.corpus import audio
from hocket.recognition.items import Item
from hocket.recognition.messages import Lease


@dataclass(frozen=True)
class Loaded:
    """Features (T, F) of the items that could be read, by position; reasons of the others."""

    features: dict[int, torch.Tensor]
    reasons: dict[int, str]
    seconds: float


class Readers:
    """Reads micro-batches with 1 to ``most`` threads; see :meth:`keep_up`."""

    def __init__(self, features: Callable[[audio.Samples], torch.Tensor], most: int) -> None:
        self._features, self._most = features, most
        self._pool = ThreadPoolExecutor(most, thread_name_prefix="reader")
        self.num = 1

    def load(self, lease: Lease) -> Loaded:
        """Read the audio of a micro-batch and compute its features."""
        began = clock.monotonic()
        positions, num = range(len(lease.items)), self.num
        if num == 1:
            rows = [self._row(lease, position) for position in positions]
        else:
            shares = [positions[first::num] for first in range(num)]
            work = [self._pool.submit(lambda s: [self._row(lease, p) for p in s], share) for share in shares]
            rows = [row for share in work for row in share.result()]
        rows.sort(key=lambda row: row[0])
        features = {position: found for position, found in rows if not isinstance(found, str)}
        reasons = {position: found for position, found in rows if isinstance(found, str)}
        return Loaded(features, reasons, clock.monotonic() - began)

    def keep_up(self, read_seconds: float, compute_seconds: float) -> None:
        """Choose the number of threads by what reading and computing the last micro-batch took."""
        if compute_seconds > 0.0:
            needed = math.ceil(self.num * read_seconds / compute_seconds)
            self.num = min(self._most, max(1, needed))

    @torch.inference_mode()
    def _row(self, lease: Lease, position: int) -> tuple[int, torch.Tensor | str]:
        try:
            samples = _read(lease.items[position], lease.num_samples[position])
            return position, self._features(samples)
        except AudioError as error:
            return position, str(error)


def _read(item: Item, num_samples: int) -> audio.Samples:
    waveform = audio.read(item.audio, item.channel, item.start, item.num, item.member)
    if len(waveform) != num_samples:
        raise AudioError(
            f"{item.audio}: {len(waveform)} samples at 16 kHz, where {num_samples} were expected: "
            "has the file changed?"
        )
    return waveform
