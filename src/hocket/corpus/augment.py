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

    @field_validator("speed_percents")
    @classmethod
    def _sensible(cls, percents: tuple[int, ...]) -> tuple[int, ...]:
        if not percents or len(set(percents)) < len(percents):
            raise ValueError("speed_percents needs one factor or more, each once")
        if not all(50 <= percent <= 200 for percent in percents):
            raise ValueError("speed_percents lie between 50 and 200")
        return percents


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
