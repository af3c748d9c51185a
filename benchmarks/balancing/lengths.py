"""Corpora as columns of lengths: generated, of a table of utterances, or of a prepared corpus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hocket.batching import order
from hocket.core import seeds
from hocket.core.seeds import U64
from hocket.core.work import I64
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.index import I32, CorpusIndex

BLOCK = 256
CHARACTERS_PER_SECOND = 12.0


@dataclass(frozen=True)
class Lengths:
    """What batching needs to know of a corpus: :class:`hocket.batching.order.Utterances`."""

    num_samples: I64
    num_tokens: I32
    speaker: I32
    block: I32
    key: U64

    def __len__(self) -> int:
        return len(self.key)

    @property
    def num_speakers(self) -> int:
        """One more than the largest code."""
        return int(self.speaker.max(initial=-1)) + 1

    @property
    def total_samples(self) -> int:
        """Samples of all."""
        return int(self.num_samples.sum())

    @property
    def block_starts(self) -> I64:
        """First row of each block, and the number of rows."""
        return order.block_starts(self.block)

    @property
    def seconds(self) -> float:
        """Seconds of audio."""
        return float(self.num_samples.sum()) / SAMPLE_RATE


def generated(count: int, mean: float = 12.0, sigma: float = 0.5, seed: int = 1) -> Lengths:
    """Log-normal durations of this mean, kept within 1 to 35 s; some more tokens a second, some fewer."""
    draw = np.random.default_rng(seed)
    seconds = np.clip(draw.lognormal(np.log(mean) - sigma**2 / 2, sigma, count), 1.0, 35.0)
    rate = np.clip(draw.normal(CHARACTERS_PER_SECOND, 2.0, count), 5.0, 20.0)
    return _columns(
        (seconds * SAMPLE_RATE).astype(np.int64),
        np.maximum(1, seconds * rate).astype(np.int32),
        draw.integers(0, 2**64, count, dtype=np.uint64),
    )


def read(path: Path) -> Lengths:
    """The training part of a prepared corpus (a folder), or of a table of utterances (``.jsonl``).

    A table has ``id``, ``duration`` in seconds and ``text`` on each line, and perhaps ``split``; its
    characters count as tokens.
    """
    if path.is_dir():
        index = CorpusIndex.open(path, "train")
        return Lengths(index.num_samples, index.num_tokens, index.speaker, index.block, index.key)
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = [row for row in rows if row.get("split", "train") == "train"]
    keys = np.array([seeds.key("utterance", row["id"]) for row in rows], np.uint64)
    order = np.argsort(seeds.mix(0, keys))
    return _columns(
        np.array([round(row["duration"] * SAMPLE_RATE) for row in rows], np.int64)[order],
        np.array([len(row["text"]) for row in rows], np.int32)[order],
        keys[order],
    )


def _columns(num_samples: I64, num_tokens: I32, keys: U64) -> Lengths:
    nobody = np.full(len(keys), -1, np.int32)
    return Lengths(num_samples, num_tokens, nobody, np.arange(len(keys), dtype=np.int32) // BLOCK, keys)
