"""Audio that is no utterance: noises and impulse responses, from a folder or a manifest.

Files are listed when a run starts and read when they are drawn. One that cannot be read is an
:class:`AudioError`, and the utterance it was drawn for is left out and listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from hocket.core.errors import RecipeError
from hocket.corpus import audio, manifest
from hocket.corpus.audio import AUDIO_SUFFIXES, SAMPLE_RATE, Samples
from hocket.corpus.augment import MADE_NOISES, SIMULATED, AugmentSettings, NoiseSettings, ReverbSettings

Settings = TypeVar("Settings", NoiseSettings, ReverbSettings)


@dataclass(frozen=True)
class Sound:
    """A file, or a part of it; samples at the file's own rate."""

    path: Path
    channel: int | None = None
    start: int = 0
    num: int | None = None

    def whole(self, channel: int | None = None) -> Samples:
        """All of it, at 16 kHz; ``channel`` where the sound itself says none. Raises :class:`AudioError`."""
        heard = channel if self.channel is None else self.channel
        return audio.read(self.path, heard, self.start, self.num)

    def stretch(self, num_samples: int, place: float) -> Samples:
        """``num_samples`` at 16 kHz from a ``place`` between 0 and 1, only as much read as that needs.

        A sound that is shorter is repeated. Raises :class:`AudioError`.
        """
        info = audio.probe(self.path)
        there = info.num_samples - self.start if self.num is None else self.num
        needed = -(-num_samples * info.sample_rate // SAMPLE_RATE)
        if there < needed:
            x_N = self.whole()
            return circular(x_N, int(place * len(x_N)), num_samples)
        first = self.start + int(place * (there - needed + 1))
        return audio.read(self.path, self.channel, first, needed)[:num_samples]


def find(source: Path) -> list[Sound]:
    """The sounds of a folder (with its folders) or a manifest of lhotse's cuts, in a fixed order; or a file.

    Raises :class:`RecipeError` when there are none.
    """
    if source.is_file() and source.suffix.lower() in AUDIO_SUFFIXES:
        return [Sound(source)]
    if source.is_dir():
        found = [path for path in source.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES]
        sounds = [Sound(path) for path in sorted(found, key=lambda path: path.relative_to(source).as_posix())]
        if not sounds:
            raise RecipeError(f"{source}: no audio in it", f"Looked for {', '.join(AUDIO_SUFFIXES)}.")
        return sounds
    sounds = []
    for _, cut in manifest.read(source):
        if isinstance(cut, Exception):
            raise cut
        sounds.append(Sound(source.parent / cut.audio, cut.channel, cut.start, cut.num))
    if not sounds:
        raise RecipeError(f"{source}: there is nothing in it")
    return sounds


def settle(augment: AugmentSettings, bases: Sequence[Path]) -> AugmentSettings:
    """The settings with folders and manifests named from anywhere, once it is sure that they hold audio.

    Each is looked for below ``bases`` in turn. Raises :class:`RecipeError` naming one that is not there.
    """
    noise = _settle("noise", augment.noise, MADE_NOISES, bases)
    reverb = _settle("reverb", augment.reverb, (SIMULATED,), bases)
    return augment.model_copy(update={"noise": noise, "reverb": reverb})


def _settle(kind: str, settings: Settings, made: Sequence[str], bases: Sequence[Path]) -> Settings:
    if settings.probability == 0:
        return settings
    named: list[str] = []
    for source in settings.sources:
        if source in made:
            named.append(source)
            continue
        found = next((path.resolve() for base in bases if (path := base / source).exists()), None)
        if found is None:
            raise RecipeError(
                f"augment.{kind}.sources: {source}: no such folder or manifest",
                f"What is made here: {', '.join(made)}.",
            )
        find(found)
        named.append(str(found))
    return settings.model_copy(update={"sources": tuple(named)})


def circular(x_N: Samples, first: int, num_samples: int) -> Samples:
    """``num_samples`` of an endless repetition of ``x_N``, from ``first`` on."""
    if first + num_samples <= len(x_N):
        return x_N[first : first + num_samples]
    parts = [x_N[first:]]
    left = num_samples - len(parts[0])
    parts += [x_N] * (left // len(x_N))
    return np.concatenate([*parts, x_N[: left % len(x_N)]])
