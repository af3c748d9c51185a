"""The synthetic corpus: connected digits and short commands, spoken by many espeak-ng voices.

For a demo and for tests: speech whose words are known, on any machine, from a seed, byte for byte.
Voices of the dev and test parts are not in training. It says nothing about accuracy on real speech.

``synthetic``, or with options ``synthetic:hours=0.7,seed=1``; ``utterances=60`` instead of hours makes
a small one. Every choice is drawn for (seed, part, number of the utterance).
"""

from __future__ import annotations

import difflib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from hocket.core import seeds
from hocket.core.errors import UsageError
from hocket.corpus.audio import SAMPLE_RATE, Samples, resample
from hocket.corpus.importers.base import ImportContext, Imported, Item
from hocket.corpus.importers.espeak import I16, Request, speak
from hocket.corpus.importers.synthetic_text import sentence

VOICES = tuple(
    """
    Alex Alicia Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Lee Marco Mario Michael
    Mike Nguyen Reed RicishayMax Storm Tweaky adam anika announcer antonio aunty belinda benjamin boris
    caleb david ed edward edward2 f1 f2 f3 f4 f5 grandma grandpa gustave ian iven iven2 iven3 iven4 john
    kaukovalta klatt klatt2 klatt3 klatt4 linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel mike2
    norbert pablo paul pedro quincy rob robert sandro shelby steph steph2 steph3 travis victor whisperf
    zac
    """.split()  # noqa: SIM905
)
"""Variants of espeak-ng 1.52 that people understand; robots, demons and most whispers are left out."""
PARTS = {"train": 0.85, "dev": 0.05, "test": 0.10}
"""Parts of the utterances, and of the voices, though a part has at least one voice."""
SECONDS_PER_UTTERANCE = 1.9
"""In the mean; turns hours into a number of utterances."""
DEFAULT_HOURS = 0.7
_BATCH = 40


@dataclass(frozen=True)
class Options:
    """What can be said after ``synthetic:``."""

    hours: float = DEFAULT_HOURS
    """Of the training part, about."""
    utterances: int | None = None
    """Of all parts; instead of hours."""
    seed: int | None = None
    """None: the seed of the preparation."""

    @property
    def num_utterances(self) -> int:
        """Utterances of all parts."""
        if self.utterances is not None:
            return self.utterances
        return round(self.hours * 3600.0 / SECONDS_PER_UTTERANCE / PARTS["train"])


@dataclass(frozen=True)
class _Plan:
    """One utterance before it is spoken."""

    item: Item
    request: Request
    key: int


class SyntheticImporter:
    """``synthetic`` or ``synthetic:OPTION=VALUE,...``."""

    def detect(self, source: str) -> bool:
        """Whether the source looks like this format."""
        return source.partition(":")[0] == "synthetic"

    def read(self, source: str, context: ImportContext) -> Imported:
        """Speak the corpus into the audio folder."""
        options = parse_options(source)
        seed = context.seed if options.seed is None else options.seed
        plans = _plan(options.num_utterances, seed, context.audio_folder)
        for part in PARTS:
            (context.audio_folder / part).mkdir(parents=True, exist_ok=True)
        batches = [plans[first : first + _BATCH] for first in range(0, len(plans), _BATCH)]
        done = 0
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            futures = [pool.submit(_speak, batch) for batch in batches]
            try:
                for batch, future in zip(batches, futures, strict=True):
                    future.result()
                    done += len(batch)
                    context.progress("speaking", done, len(plans))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return Imported("synthetic", [plan.item for plan in plans])


def parse_options(source: str) -> Options:
    """Read ``synthetic:hours=0.7,seed=1``. Raises :class:`UsageError` naming what is wrong."""
    types = {"hours": float, "utterances": int, "seed": int}
    values: dict[str, float] = {}
    for part in filter(None, source.partition(":")[2].split(",")):
        name, _, value = part.partition("=")
        if name not in types:
            near = difflib.get_close_matches(name, types, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(types)}."
            raise UsageError(f"{source}: unknown option {name!r}", hint)
        try:
            values[name] = types[name](value)
        except ValueError:
            raise UsageError(f"{source}: {name} is {value!r}, not a number") from None
    options = Options(
        hours=values.get("hours", DEFAULT_HOURS),
        utterances=int(values["utterances"]) if "utterances" in values else None,
        seed=int(values["seed"]) if "seed" in values else None,
    )
    if "hours" in values and "utterances" in values:
        raise UsageError(f"{source}: say hours or utterances, not both")
    if not 20 <= options.num_utterances <= 10_000_000:
        raise UsageError(f"{source}: {options.num_utterances} utterances", "Ask for 20 or more.")
    return options


def voices_by_part(seed: int) -> dict[str, list[str]]:
    """Which voices speak which part: a keyed draw, no voice in two parts."""
    keys = np.asarray([seeds.key("voice", voice) for voice in VOICES], np.uint64)
    drawn = [VOICES[place] for place in np.argsort(seeds.mix(seeds.key("voices", seed), keys))]
    parts: dict[str, list[str]] = {}
    for part in ("test", "dev"):
        num = max(1, round(PARTS[part] * len(VOICES)))
        parts[part], drawn = drawn[:num], drawn[num:]
    return {"train": drawn, **parts}


def _plan(num_utterances: int, seed: int, folder: Path) -> list[_Plan]:
    voices = voices_by_part(seed)
    counts = {part: max(4, round(PARTS[part] * num_utterances)) for part in ("dev", "test")}
    counts["train"] = num_utterances - sum(counts.values())
    return [
        _plan_one(seed, part, number, voices[part], folder)
        for part in PARTS
        for number in range(counts[part])
    ]


def _plan_one(seed: int, part: str, number: int, voices: list[str], folder: Path) -> _Plan:
    draw = seeds.generator("synthetic", seed, part, number)
    voice = voices[number % len(voices)]
    text = sentence(draw)
    id = f"{part}-{number:05d}-{voice}"
    item = Item(
        id,
        folder / part / f"{id}.flac",
        text,
        f"synthetic:seed={seed} #{part}-{number}",
        speaker=voice,
        split=part,
    )
    request = Request(
        text=text,
        voice=f"en-us+{voice}",
        rate=int(draw.integers(105, 156)),
        pitch=int(draw.integers(35, 66)),
        range=int(draw.integers(30, 71)),
        volume=int(draw.integers(60, 101)),
    )
    return _Plan(item, request, seeds.key("synthetic", seed, part, number))


def _speak(plans: list[_Plan]) -> None:
    spoken = speak([plan.request for plan in plans])
    for plan, (sample_rate, samples) in zip(plans, spoken, strict=True):
        recording = _record(samples, sample_rate, plan.key)
        soundfile.write(plan.item.audio, recording, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


def _record(samples: I16, sample_rate: int, key: int) -> I16:
    """As a microphone would hear it: 16 kHz, some silence around the words, a faint hiss."""
    draw = seeds.generator("microphone", key)
    x_N: Samples = resample(samples.astype(np.float32) / 32768.0, sample_rate)
    before, after = (draw.uniform(0.10, 0.30, size=2) * SAMPLE_RATE).astype(int)
    x_N = np.pad(x_N, (before, after))
    x_N *= 0.5 / max(0.05, float(np.abs(x_N).max())) * 10.0 ** draw.uniform(-0.6, 0.2)
    hiss = 10.0 ** draw.uniform(-4.0, -2.7)
    x_N += (hiss * draw.standard_normal(len(x_N))).astype(np.float32)
    return np.round(np.clip(x_N, -1.0, 32767 / 32768) * 32768.0).astype(np.int16)
