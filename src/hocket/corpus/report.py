"""What a preparation made, as facts: printed, and kept in ``corpus.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hocket.core.errors import CorpusError
from hocket.corpus.looking import Seen
from hocket.corpus.sharding import ShardStatistics

FILE = "corpus.json"
VERSION = 1


@dataclass(frozen=True)
class SplitStatistics:
    """One split in numbers; lengths in seconds."""

    utterances: int
    hours: float
    speakers: int
    tokens: int
    shortest: float
    median: float
    longest: float
    out_of_vocabulary: int
    """Utterances with a character that no token has: they are scored, never learnt from."""
    fingerprint: str


@dataclass(frozen=True)
class PrepareReport:
    """What was prepared, what was left out, and what was done to the rest."""

    folder: Path
    name: str
    fingerprint: str
    splits: dict[str, SplitStatistics]
    left_out: dict[str, int]
    """Utterances by kind of reason; each is listed in ``left_out.jsonl``."""
    notes: list[str]
    tokens: dict[str, Any]
    settings: dict[str, Any]
    seconds: float
    shards: dict[str, ShardStatistics] = field(default_factory=dict)
    """By split, where the audio was put into shards."""

    def as_dict(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        return asdict(self) | {"folder": str(self.folder)}

    def as_corpus(self) -> dict[str, Any]:
        """What ``corpus.json`` says: the same wherever the corpus lies and however long it took."""
        kept = {name: value for name, value in self.as_dict().items() if name not in ("folder", "seconds")}
        if not self.shards:
            del kept["shards"]
        return {"version": VERSION, "sample_rate": 16_000, **kept}


def statistics(
    seen: Sequence[Seen], tokens: int, out_of_vocabulary: int, fingerprint: str
) -> SplitStatistics:
    """Numbers of one split of at least one utterance."""
    seconds = np.asarray([one.seconds for one in seen])
    return SplitStatistics(
        utterances=len(seen),
        hours=round(float(seconds.sum()) / 3600.0, 4),
        speakers=len({one.item.speaker for one in seen if one.item.speaker is not None}),
        tokens=tokens,
        shortest=round(float(seconds.min()), 3),
        median=round(float(np.median(seconds)), 3),
        longest=round(float(seconds.max()), 3),
        out_of_vocabulary=out_of_vocabulary,
        fingerprint=fingerprint,
    )


def read_corpus(folder: Path) -> dict[str, Any]:
    """``corpus.json`` of a prepared folder. Raises :class:`CorpusError` when it is none."""
    path = folder / FILE
    try:
        corpus = json.loads(path.read_text(encoding="utf-8"))
        if corpus["version"] != VERSION:
            raise CorpusError(
                f"{path}: version {corpus['version']}, this hocket reads {VERSION}", "Prepare it again."
            )
    except FileNotFoundError:
        raise CorpusError(
            f"{folder}: not a prepared corpus", "Make one with: hocket prepare SOURCE OUT"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorpusError(f"{path}: cannot be read: {error!r}", "Prepare the corpus again.") from error
    assert isinstance(corpus, dict)
    return corpus
