"""From runs to the knee: audio and steps to a common loss, and what the noise scale had said."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from hocket.core import seeds as keyed
from hocket.studies.batch.running import Measured, audio_of_bins

EARLY = 0.15
"""Part of a run that the advice of the noise scale is made from."""
_TARGET_SHARE = 0.45
"""Where the smallest steps stand at the target: larger ones may take a bit more than twice the audio."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Size:
    """One size of a step under one rule, over its seeds."""

    times: int
    rule: str
    batch_seconds: float
    seeds: tuple[int, ...]
    steps: int
    largest_lr: float
    audio_to_target: float | None
    """Seconds of audio, mean over seeds; None where one never reached it."""
    steps_to_target: float | None
    loss: float
    """Nats per token of the last fiftieth of the audio, mean over seeds."""
    wer: float
    wer_low: float
    wer_high: float
    """Bootstrap over seeds and utterances."""
    dev_wer: float | None


@dataclass(frozen=True)
class Knee:
    """Where twice the audio of the smallest steps is needed."""

    target_loss: float
    seconds: float | None
    """Of a step; None where no size that reached the target needed more audio than another."""
    least_audio: float | None
    """Seconds to the target with the smallest steps there could be."""
    noise_early: float | None
    """The noise scale from the first part of the runs of the recipe's own size, median over seeds."""
    noise_whole: float | None
    """The same of the whole runs."""
    ratio: float | None
    """Early noise scale over the knee."""


def sizes(found: Sequence[Measured], target: float) -> list[Size]:
    """All sizes, the smallest first, each under the rules in the order of their runs."""
    groups: dict[tuple[int, str], list[Measured]] = {}
    for each in found:
        groups.setdefault((each.times, each.rule), []).append(each)
    return [_size(groups[key], target) for key in sorted(groups, key=lambda key: key[0])]


def _size(runs: list[Measured], target: float) -> Size:
    first = runs[0]
    audio = [audio_to(each, target) for each in runs]
    reached = [value for value in audio if value is not None]
    mean = sum(reached) / len(reached) if len(reached) == len(runs) else None
    low, high = interval(runs)
    dev = [each.dev_wer for each in runs if each.dev_wer is not None]
    return Size(
        times=first.times,
        rule=first.rule,
        batch_seconds=first.batch_seconds,
        seeds=tuple(each.seed for each in runs),
        steps=first.steps,
        largest_lr=first.largest_lr,
        audio_to_target=mean,
        steps_to_target=None if mean is None else mean / (first.audio_seconds / first.steps),
        loss=statistics.fmean(each.losses[-1] for each in runs),
        wer=statistics.fmean(each.wer for each in runs),
        wer_low=low,
        wer_high=high,
        dev_wer=statistics.fmean(dev) if dev else None,
    )


def target_of(found: Sequence[Measured]) -> float:
    """The loss that runs of the smallest size had at a bit less than half of their audio, median."""
    smallest = min(each.times for each in found)
    at = [each.losses[int(_TARGET_SHARE * len(each.losses))] for each in found if each.times == smallest]
    return statistics.median(at)


def audio_to(measured: Measured, target: float) -> float | None:
    """Seconds of audio at which the smoothed loss was first at ``target``, between points in proportion."""
    audio, losses = audio_of_bins(measured), measured.losses
    for place, loss in enumerate(losses):
        if loss <= target:
            if place == 0 or losses[place - 1] <= loss:
                return audio[place]
            share = (losses[place - 1] - target) / (losses[place - 1] - loss)
            return audio[place - 1] + share * (audio[place] - audio[place - 1])
    return None


def find_knee(found: Sequence[Measured], of_sizes: Sequence[Size], rule: str, target: float) -> Knee:
    """By ``audio = least * (1 + batch / knee)`` through the sizes of one rule, least squares on ratios."""
    smallest = min(each.times for each in found)
    points = [
        (size.batch_seconds, size.audio_to_target)
        for size in of_sizes
        if size.audio_to_target is not None and (size.rule == rule or size.times == smallest)
    ]
    seconds = least = None
    if len(points) >= 2:
        rows = np.array([[1.0 / audio, batch / audio] for batch, audio in points])
        scale = rows.max(axis=0)
        (base, slope), _ = nnls(rows / scale, np.ones(len(rows)))
        base, slope = base / scale[0], slope / scale[1]
        least = float(base) if base > 0 else None
        seconds = float(base / slope) if slope > 0 and base > 0 else None
    runs = [each for each in found if each.times == smallest]
    early = _median([_last(each.noise, EARLY) for each in runs])
    return Knee(
        target_loss=target,
        seconds=seconds,
        least_audio=least,
        noise_early=early,
        noise_whole=_median([_last(each.noise, 1.0) for each in runs]),
        ratio=None if early is None or seconds is None else early / seconds,
    )


def _last(noise: Sequence[Sequence[float]], until: float) -> float | None:
    told = [seconds for done, seconds in noise if done <= until]
    return told[-1] if told else None


def _median(values: Sequence[float | None]) -> float | None:
    told = [value for value in values if value is not None]
    return statistics.median(told) if told else None


def interval(runs: Sequence[Measured]) -> tuple[float, float]:
    """95 % for the mean WER of runs that differ in their seed."""
    if len(runs) == 1:
        return runs[0].wer_low, runs[0].wer_high
    return interval_of([(each.errors, each.words) for each in runs], *(each.fingerprint for each in runs))


def interval_of(counts: Sequence[tuple[Sequence[int], Sequence[int]]], *name: str) -> tuple[float, float]:
    """95 % of a bootstrap that draws seeds and utterances (Bisani & Ney, ICASSP 2004), for the mean WER.

    ``counts`` are errors and words of each utterance, by seed; ``name`` is what the draws are keyed by.
    """
    draw = keyed.generator("batch study", *name)
    errors_SN, words_SN = (np.array([each[part] for each in counts], float) for part in (0, 1))
    num_seeds, num = errors_SN.shape
    rates = np.empty(_RESAMPLES)
    for place in range(_RESAMPLES):
        drawn = np.ix_(draw.integers(num_seeds, size=num_seeds), draw.integers(num, size=num))
        rates[place] = errors_SN[drawn].sum() / max(1.0, words_SN[drawn].sum())
    low, high = np.quantile(rates, (0.025, 0.975))
    return float(low), float(high)
