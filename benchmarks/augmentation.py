"""What noise and rooms cost in the loader's path: CPU time of an utterance of five seconds.

::

    python benchmarks/augmentation.py

Speech is noise here: what is measured does not depend on what is said. Times are processor time of this
thread, the minimum over rounds, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch

from hocket.corpus import audio
from hocket.corpus.augment import NoiseSettings, ReverbSettings
from hocket.corpus.features import LogMel
from hocket.corpus.index import Utterance
from hocket.corpus.noise import Noise
from hocket.corpus.reverb import Reverb

SECONDS, ROUNDS, UTTERANCES = 5.0, 5, 20


class Speech:
    """Fifty utterances of one file."""

    def __init__(self, path: Path, num: int) -> None:
        self._utterance = Utterance("u", path, None, 0, num, audio.SAMPLE_RATE, "", None)

    def __len__(self) -> int:
        return 50

    def utterance(self, row: int) -> Utterance:
        """Always the same."""
        return self._utterance


def milliseconds(work: Callable[[int], object]) -> float:
    """Of one call, the minimum over rounds of the mean over utterances."""
    work(0)
    best = float("inf")
    for _ in range(ROUNDS):
        start = time.thread_time()
        for key in range(UTTERANCES):
            work(key)
        best = min(best, (time.thread_time() - start) / UTTERANCES)
    return 1000 * best


def main() -> None:
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    x_N = (0.1 * draw.normal(size=round(SECONDS * audio.SAMPLE_RATE))).astype(np.float32)
    log_mel = LogMel()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.flac"
        soundfile.write(path, x_N, audio.SAMPLE_RATE)
        noises = Path(folder) / "noises"
        noises.mkdir()
        for number in range(4):
            soundfile.write(noises / f"{number}.flac", np.tile(x_N, 12), audio.SAMPLE_RATE)
        speech = Speech(path, len(x_N))
        rows: list[tuple[str, float]] = [
            ("read a FLAC file", milliseconds(lambda _key: audio.read(path))),
            ("speed factor of 90 %", milliseconds(lambda _key: audio.perturb_speed(x_N, 90))),
            ("log-mel features", milliseconds(lambda _key: log_mel(x_N))),
        ]
        for source in ("white", "pink", "babble", str(noises)):
            noise = Noise(NoiseSettings(probability=1.0, sources=(source,)), 1, speech)
            name = "recorded noise, FLAC of a minute" if source == str(noises) else f"noise: {source}"
            rows.append((name, milliseconds(lambda key, noise=noise: noise.add(x_N, 0, key))))  # type: ignore[misc]
        reverb = Reverb(ReverbSettings(probability=1.0), 1)
        rows.append(("room: simulated", milliseconds(lambda key: reverb.apply(x_N, 0, key))))
        rows.append(("to draw whether", milliseconds(lambda key: reverb.drawn(0, key))))
        start = time.thread_time()
        Noise(NoiseSettings(probability=1.0, sources=("babble",)), 2, speech).add(x_N, 0, 1)
        rows.append(("the tables of babble, once", 1000 * (time.thread_time() - start)))
    print(f"{'':36}ms for an utterance of {SECONDS:g} s")
    for name, value in rows:
        print(f"{name:36}{value:8.3f}")


if __name__ == "__main__":
    main()
