"""Rooms: speech as it sounds through an impulse response, recorded or made.

One that is made is a direct path and, after a gap, a diffuse tail: Gaussian noise that decays by 60 dB
in the reverberation time, as in Polack's model (thesis, Université du Maine, 1988; Habets,
"Single- and multi-microphone speech dereverberation", 2007). The tail after the end of an utterance is
cut and the direct path keeps its place, so lengths and times stay what they were.

Ko et al., "A study on data augmentation of reverberant speech for robust speech recognition", ICASSP 2017.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hocket.core import seeds
from hocket.corpus import sounds
from hocket.corpus.audio import SAMPLE_RATE, Samples
from hocket.corpus.augment import SIMULATED, ReverbSettings

_DECAY = 3.0 * np.log(10.0)
"""An amplitude falls by 60 dB while its exponent falls by this."""
_GAP = (0.001, 0.010)
"""Seconds from the direct path to what comes after it."""


class Reverb:
    """Puts utterances of one run into rooms."""

    def __init__(self, settings: ReverbSettings, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._sources = [None if name == SIMULATED else sounds.find(Path(name)) for name in settings.sources]

    def drawn(self, epoch: int, key: int) -> bool:
        """Whether an utterance is put into a room in this pass over it."""
        draw = seeds.uniform(seeds.key("reverb", self._seed, epoch, key), np.zeros(1, np.uint64))
        return bool(draw[0] < self._settings.probability)

    def apply(self, x_N: Samples, epoch: int, key: int) -> Samples:
        """``x_N`` in a room, as long as before, its direct path where it was.

        Raises :class:`AudioError` naming an impulse response that cannot be read.
        """
        salt = seeds.key("room", self._seed, epoch, key)
        which, one, two, three = seeds.uniform(salt, np.arange(4, dtype=np.uint64)).tolist()
        found = self._sources[int(which * len(self._sources))]
        if found is None:
            response_M = self._simulate(salt, one, two, three)
        else:
            response_M = direct_first(found[int(one * len(found))].whole(channel=0))
        return convolved(x_N, response_M)

    def _simulate(self, salt: int, one: float, two: float, three: float) -> Samples:
        (shortest, longest), (low, high) = self._settings.rt60, self._settings.drr_db
        rt60, drr_db = shortest + (longest - shortest) * one, low + (high - low) * two
        gap = 1 + round((_GAP[0] + (_GAP[1] - _GAP[0]) * three) * SAMPLE_RATE)
        return simulated(salt, rt60, drr_db, gap)


def simulated(salt: int, rt60: float, drr_db: float, gap: int) -> Samples:
    """An impulse response: 1, ``gap - 1`` zeros, and a tail that ends 60 dB down, after ``rt60`` seconds.

    ``drr_db`` is the energy of the direct path over that of the tail.
    """
    num = max(1, round(rt60 * SAMPLE_RATE) - gap)
    tail_M = np.random.Generator(np.random.Philox(key=salt)).standard_normal(num, np.float32)
    tail_M *= np.exp(np.arange(num, dtype=np.float32) * np.float32(-_DECAY / (rt60 * SAMPLE_RATE)))
    energy = float(np.square(tail_M).sum(dtype=np.float64))
    tail_M *= np.float32(np.sqrt(10.0 ** (-drr_db / 10.0) / energy))
    response_M = np.zeros(gap + num, np.float32)
    response_M[0] = 1.0
    response_M[gap:] = tail_M
    return response_M


def direct_first(response_M: Samples) -> Samples:
    """A recorded response from its largest sample on, scaled so that this one is 1."""
    peak = int(np.abs(response_M).argmax())
    return response_M[peak:] / response_M[peak] if response_M[peak] else np.ones(1, np.float32)


def convolved(x_N: Samples, response_M: Samples) -> Samples:
    """The first ``len(x_N)`` samples of the convolution."""
    from scipy import fft

    response_M = response_M[: len(x_N)]
    size = fft.next_fast_len(len(x_N) + len(response_M) - 1, real=True)
    spectrum_K = fft.rfft(x_N, size)
    spectrum_K *= fft.rfft(response_M, size)
    return np.asarray(fft.irfft(spectrum_K, size)[: len(x_N)], np.float32)
