"""Speed factors and SpecAugment, drawn from what is learnt: (seed, epoch, utterance).

Whoever loads an utterance, and whenever, draws the same. Shape suffixes: T frames, F mel bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field, field_validator

from hocket.core import seeds
from hocket.core.recipe import Section
from hocket.core.work import I64

MADE_NOISES = ("white", "pink", "babble")
SIMULATED = "simulated"

Range = tuple[float, float]


class NoiseSettings(Section):
    """Noise added to some utterances: :mod:`hocket.corpus.noise`."""

    probability: float = Field(0.0, ge=0.0, le=1.0)
    """Of an utterance to get noise; 0 turns it off."""
    sources: tuple[str, ...] = Field(MADE_NOISES, min_length=1)
    """Each drawn equally often: ``white``, ``pink``, ``babble`` (of the corpus's own voices), a folder of
    audio, or a lhotse manifest of cuts."""
    snr_db: Range = (5.0, 20.0)
    """Power of speech over that of noise, in dB, drawn evenly from low to high."""

    @field_validator("snr_db")
    @classmethod
    def _low_to_high(cls, limits: Range) -> Range:
        return _low_to_high(limits)


class ReverbSettings(Section):
    """Rooms that some utterances are put into: :mod:`hocket.corpus.reverb`."""

    probability: float = Field(0.0, ge=0.0, le=1.0)
    """Of an utterance to sound in a room; 0 turns it off."""
    sources: tuple[str, ...] = Field((SIMULATED,), min_length=1)
    """Each drawn equally often: ``simulated``, a folder of impulse responses, or a lhotse manifest."""
    rt60: Range = (0.15, 0.7)
    """Seconds in which the sound of a simulated room falls by 60 dB, drawn evenly from low to high."""
    drr_db: Range = (0.0, 12.0)
    """Energy of the direct path over that of the rest, in dB, of a simulated room."""

    @field_validator("rt60", "drr_db")
    @classmethod
    def _low_to_high(cls, limits: Range) -> Range:
        return _low_to_high(limits)

    @field_validator("rt60")
    @classmethod
    def _a_room(cls, limits: Range) -> Range:
        if limits[0] < 0.02 or limits[1] > 10.0:
            raise ValueError("rt60 lies between 0.02 and 10 seconds")
        return limits


class AugmentSettings(Section):
    """How training audio is varied. Masks of SpecAugment: so many, each up to so wide."""

    speed_percents: tuple[int, ...] = (90, 100, 110)
    """Speed factors in percent, each drawn equally often; ``[100]`` turns it off."""
    freq_masks: int = Field(2, ge=0, le=20)
    freq_width: int = Field(27, ge=0)
    """Mel bins that a frequency mask hides at most."""
    time_masks: int = Field(5, ge=0, le=50)
    time_width: float = Field(0.05, ge=0.0, le=0.5)
    """Part of the utterance that a time mask hides at most."""

    noise: NoiseSettings = NoiseSettings()
    reverb: ReverbSettings = ReverbSettings()

    @property
    def of_waveforms(self) -> bool:
        """True when an utterance may sound otherwise in every epoch."""
        return self.noise.probability > 0 or self.reverb.probability > 0

    @field_validator("speed_percents")
    @classmethod
    def _sensible(cls, percents: tuple[int, ...]) -> tuple[int, ...]:
        if not percents or len(set(percents)) < len(percents):
            raise ValueError("speed_percents needs one factor or more, each once")
        if not all(50 <= percent <= 200 for percent in percents):
            raise ValueError("speed_percents lie between 50 and 200")
        return percents


def _low_to_high(limits: Range) -> Range:
    if limits[0] > limits[1]:
        raise ValueError("the lower limit comes first")
    return limits


def draw_speed(seed: int, epoch: int, keys: seeds.U64, percents: Sequence[int]) -> I64:
    """The speed factor, in percent, of each utterance key in this epoch."""
    draw = seeds.mix(seeds.key("speed", seed, epoch), keys) % np.uint64(len(percents))
    return np.asarray(percents, np.int64)[draw.astype(np.int64)]


def spec_augment(
    features_TF: torch.Tensor, settings: AugmentSettings, seed: int, epoch: int, key: int, view: int = 0
) -> torch.Tensor:
    """Mask bands of mel bins and stretches of frames with zeros (the mean), in place.

    Each ``view`` of an utterance is masked differently. Widths of time masks are in proportion to the
    length, so that short utterances stay readable.

    Park et al., "SpecAugment", Interspeech 2019; adaptive width: Park et al., "SpecAugment on large
    scale datasets", ICASSP 2020.
    """
    num_frames, num_bins = features_TF.shape
    widest_F = min(settings.freq_width, num_bins)
    widest_T = int(settings.time_width * num_frames)
    num = settings.freq_masks + settings.time_masks
    if num == 0 or num_frames == 0:
        return features_TF
    salt = seeds.key("specaugment", seed, epoch, key, *([view] if view else []))
    draws = seeds.uniform(salt, np.arange(2 * num, dtype=np.uint64))
    for number in range(num):
        in_time = number >= settings.freq_masks
        widest, length = (widest_T, num_frames) if in_time else (widest_F, num_bins)
        width = int(draws[2 * number] * (widest + 1))
        first = int(draws[2 * number + 1] * (length - width + 1))
        if in_time:
            features_TF[first : first + width] = 0.0
        else:
            features_TF[:, first : first + width] = 0.0
    return features_TF
