"""Noise added to speech: recorded, white, pink, or the babble of the corpus's own voices.

Whether, which, where and how loud is drawn for (seed, pass, utterance). Noise that is made here is cut
from tables that follow from the seed (and the corpus) alone, so that every worker has the same and an
utterance costs a copy and a sum.

Noise augmentation: Snyder, Chen & Povey, "MUSAN: a music, speech, and noise corpus", 2015; Ko et al.,
"A study on data augmentation of reverberant speech", ICASSP 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from hocket.core import seeds
from hocket.core.errors import AudioError, CorpusError
from hocket.corpus import audio, sounds
from hocket.corpus.audio import Samples
from hocket.corpus.augment import NoiseSettings
from hocket.corpus.index import Utterance
from hocket.corpus.storage import Storage, read_utterance

_TABLE = 1 << 20
"""Samples of white and of pink noise: 66 seconds."""
_VOICE = 1 << 19
"""Samples of one voice of babble: 33 seconds."""
_VOICES, _FEWEST, _MOST = 8, 3, 7
_TRIES = 10


class Speech(Protocol):
    """What babble is made of: the utterances of a corpus."""

    def __len__(self) -> int: ...

    def utterance(self, row: int) -> Utterance:
        """The row in full."""
        ...


class Noise:
    """Adds noise to utterances of one run; holds the tables."""

    def __init__(
        self, settings: NoiseSettings, seed: int, speech: Speech, storage: Storage | None = None
    ) -> None:
        self._settings, self._seed, self._speech, self._storage = settings, seed, speech, storage
        made = {"white": self._from_white, "pink": self._from_pink, "babble": self._babble}
        self._sources = [made.get(name) or self._recorded(Path(name)) for name in settings.sources]

    def drawn(self, epoch: int, key: int) -> bool:
        """Whether an utterance gets noise in this pass over it."""
        draw = seeds.uniform(seeds.key("noise", self._seed, epoch, key), np.zeros(1, np.uint64))
        return bool(draw[0] < self._settings.probability)

    def add(self, x_N: Samples, epoch: int, key: int) -> Samples:
        """``x_N`` with noise, as long as before. Digital silence stays as it is.

        Raises :class:`AudioError` naming a noise that cannot be read.
        """
        salt = seeds.key("noise source", self._seed, epoch, key)
        which, level = seeds.uniform(salt, np.arange(2, dtype=np.uint64)).tolist()
        noise_N = self._sources[int(which * len(self._sources))](salt, len(x_N))
        low, high = self._settings.snr_db
        return mixed(x_N, noise_N, low + (high - low) * level)

    def _from_white(self, salt: int, num_samples: int) -> Samples:
        return self._cut(self._white, salt, num_samples)

    def _from_pink(self, salt: int, num_samples: int) -> Samples:
        return self._cut(self._pink, salt, num_samples)

    def _cut(self, table_N: Samples, salt: int, num_samples: int) -> Samples:
        place = seeds.uniform(seeds.key("place", salt), np.zeros(1, np.uint64))[0]
        return sounds.circular(table_N, int(place * len(table_N)), num_samples)

    def _recorded(self, source: Path) -> Callable[[int, int], Samples]:
        found = sounds.find(source)

        def draw(salt: int, num_samples: int) -> Samples:
            which, place = seeds.uniform(seeds.key("recorded", salt), np.arange(2, dtype=np.uint64)).tolist()
            return found[int(which * len(found))].stretch(num_samples, place)

        return draw

    def _babble(self, salt: int, num_samples: int) -> Samples:
        """The sum of some voices, each from a place of its own."""
        draws = seeds.uniform(seeds.key("babble", salt), np.arange(1 + _MOST, dtype=np.uint64)).tolist()
        count = _FEWEST + int(draws[0] * (_MOST - _FEWEST + 1))
        first = seeds.key("first voice", salt) % _VOICES
        total_N = np.zeros(num_samples, np.float32)
        for number in range(count):
            voice_N = self._voices[(first + number) % _VOICES]
            total_N += sounds.circular(voice_N, int(draws[1 + number] * len(voice_N)), num_samples)
        return total_N

    @cached_property
    def _white(self) -> Samples:
        return seeds.generator("white noise", self._seed).standard_normal(_TABLE, np.float32)

    @cached_property
    def _pink(self) -> Samples:
        """Power falls as 1/f, from 20 Hz on; it joins its own beginning."""
        from scipy import fft

        spectrum_K = np.asarray(fft.rfft(self._white))
        hz_K = np.arange(len(spectrum_K)) * (audio.SAMPLE_RATE / _TABLE)
        spectrum_K *= np.where(hz_K < 20.0, 0.0, 1.0 / np.sqrt(np.maximum(hz_K, 20.0))).astype(np.float32)
        return np.asarray(fft.irfft(spectrum_K, _TABLE), np.float32)

    @cached_property
    def _voices(self) -> list[Samples]:
        return [self._voice(number) for number in range(_VOICES)]

    def _voice(self, number: int) -> Samples:
        """Utterances drawn from the corpus one after another, each at the same level."""
        parts: list[Samples] = []
        length = turn = 0
        while length < _VOICE:
            if turn >= _TRIES and not parts:
                raise CorpusError(
                    f"augment.noise: babble: {_TRIES} utterances of the corpus could not be read in a row",
                    "Prepare the corpus again, or take babble from augment.noise.sources.",
                )
            row = seeds.key("babble", self._seed, number, turn) % len(self._speech)
            turn += 1
            utterance = self._speech.utterance(row)
            try:
                x_N = read_utterance(utterance, row, self._storage)
            except AudioError:  # it will be listed when it is learnt from
                continue
            power = mean_square(x_N)
            if power > 0:
                parts.append(x_N / np.float32(np.sqrt(power)))
                length += len(x_N)
        return np.concatenate(parts)[:_VOICE]


def mixed(x_N: Samples, noise_N: Samples, snr_db: float) -> Samples:
    """Their sum, with ``snr_db`` between the mean power of the one and the other."""
    signal, noise = mean_square(x_N), mean_square(noise_N)
    if signal <= 0 or noise <= 0:
        return x_N
    return x_N + np.float32(np.sqrt(signal / noise * 10.0 ** (-snr_db / 10.0))) * noise_N


def mean_square(x_N: Samples) -> float:
    """Mean power, in float64."""
    return float(np.square(x_N).mean(dtype=np.float64)) if len(x_N) else 0.0
