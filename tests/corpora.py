"""Audio and tables made on the spot, for tests of corpora."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from hocket.core.work import MicroBatchSpec
from hocket.corpus.audio import perturbed_samples
from hocket.corpus.features import HOP
from hocket.corpus.index import CorpusIndex


def noise(seconds: float, rate: int = 16_000, seed: int = 0, channels: int = 1) -> npt.NDArray[np.float32]:
    """Noise that moves in level, so that features differ from frame to frame; (N,) or (N, channels)."""
    draw = np.random.default_rng(seed)
    num = round(seconds * rate)
    level = 0.02 + 0.1 * np.abs(np.sin(np.arange(num) / rate * 5.0 + seed))
    shape: tuple[int, ...] = (num,) if channels == 1 else (num, channels)
    x = draw.normal(size=shape).astype(np.float32)
    return (x.T * level).T.astype(np.float32)


def write_audio(
    path: Path, seconds: float = 1.0, rate: int = 16_000, seed: int = 0, channels: int = 1
) -> Path:
    """A file of :func:`noise` in the format that its name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seconds, rate, seed, channels), rate)
    return path


def write_table(folder: Path, rows: Sequence[dict[str, Any] | str], name: str = "manifest.jsonl") -> Path:
    """A JSONL table; a row given as a string stands there as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def spoken_table(folder: Path, num: int = 12, speakers: int = 3, split: str | None = None) -> Path:
    """A table of ``num`` noises of 1.0, 1.1, 1.2... s, with short texts."""
    texts = ("go left", "go right", "stop", "a b c")
    rows: list[dict[str, Any]] = []
    for number in range(num):
        write_audio(folder / "audio" / f"{number}.wav", 1.0 + 0.1 * number, seed=number)
        row = {"id": f"u{number}", "audio": f"audio/{number}.wav", "text": texts[number % 4]}
        rows.append(row | {"speaker": f"s{number % speakers}"} | ({"split": split} if split else {}))
    return write_table(folder, rows)


def spec(index: CorpusIndex, rows: Sequence[int], percents: Sequence[int] | None = None) -> MicroBatchSpec:
    """The micro-batch of these rows, padded as little as can be."""
    chosen = np.asarray(rows, np.int64)
    speed = np.full(len(chosen), 100, np.int64) if percents is None else np.asarray(percents, np.int64)
    frames = [
        perturbed_samples(int(index.num_samples[row]), int(percent)) // HOP
        for row, percent in zip(chosen, speed, strict=True)
    ]
    tokens = index.num_tokens[chosen]
    return MicroBatchSpec(
        index=0,
        rows=chosen,
        speed_percent=speed,
        num_frames=max(frames),
        num_tokens=int(tokens.max()),
        total_frames=sum(frames),
        total_tokens=int(tokens.sum()),
        cost=0.0,
    )
