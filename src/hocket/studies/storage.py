"""Measuring a store: how fast the training order of a corpus comes out of it, and whom that feeds.

Blocks are read as training reads them, in the order of an epoch, through the same storage; each recording
is decoded to 16 kHz. A cold pass begins with an empty folder of blocks, a warm one repeats it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.future import Future
from hocket.core import clock
from hocket.core.cost import CostModel
from hocket.core.errors import RunError
from hocket.corpus.audio import SAMPLE_RATE
from hocket.corpus.index import CorpusIndex
from hocket.corpus.shard_source import StorageSettings
from hocket.corpus.storage import Storage, read_utterance

_BATCHES = BatchSettings(micro_batches_per_step=1)
_COST = CostModel(a0=0.0, a=1.0, b=0.0, c=0.0, d=0.0)


@dataclass(frozen=True)
class PassReport:
    """One pass over part of an epoch, by one reader."""

    utterances: int
    seconds: float
    audio_seconds: float
    store_bytes: int
    disk_bytes: int
    fetched_bytes: int
    hedged_bytes: int
    overread_bytes: int
    retries: int
    wait_seconds: float
    read_ms_p50: float | None
    read_ms_p99: float | None

    @property
    def utterances_per_second(self) -> float:
        """Decoded."""
        return self.utterances / self.seconds

    @property
    def audio_per_second(self) -> float:
        """Seconds of speech decoded, a second."""
        return self.audio_seconds / self.seconds

    @property
    def megabytes_per_second(self) -> float:
        """Of the recordings."""
        return (self.store_bytes + self.disk_bytes) / self.seconds / 1e6


@dataclass(frozen=True)
class StorageReport:
    """What a store gives, and how many workers that feeds."""

    store: str
    passes: dict[str, PassReport] = field(default_factory=dict)
    """``cold`` and ``warm``."""
    needed: float | None = None
    """Seconds of speech a second that one worker learns from; None where nobody said."""

    def workers_fed(self, which: str) -> float | None:
        """Workers that a pass's rate is enough for."""
        return None if not self.needed else self.passes[which].audio_per_second / self.needed

    def as_dict(self) -> dict[str, object]:
        """All of it, as JSON values."""
        return {
            "store": self.store,
            "needed": self.needed,
            **{
                name: {
                    **vars(one),
                    "utterances_per_second": one.utterances_per_second,
                    "audio_per_second": one.audio_per_second,
                    "megabytes_per_second": one.megabytes_per_second,
                    "workers_fed": self.workers_fed(name),
                }
                for name, one in self.passes.items()
            },
        }


def measure(
    corpus: Path,
    store: str | None = None,
    *,
    split: str = "train",
    settings: StorageSettings | None = None,
    seconds: float = 30.0,
    needed: float | None = None,
) -> StorageReport:
    """Read part of an epoch twice, ``seconds`` at most the first time, the second time the same part.

    The folder of blocks is one of its own, so that the first pass is cold (but for the system's own
    memory of files). Raises :class:`CorpusError` when the corpus is not in shards or cannot be read.
    """
    index = CorpusIndex.open(corpus, split)
    settings = settings or StorageSettings()
    passes: dict[str, PassReport] = {}
    with tempfile.TemporaryDirectory(prefix="hocket-bench-", dir=settings.cache) as folder:
        own = settings.model_copy(update={"cache": Path(folder)})
        passes["cold"] = read_pass(index, store, own, seconds=seconds)
        passes["warm"] = read_pass(index, store, own, most=passes["cold"].utterances)
    return StorageReport(store or str(corpus), passes, needed)


def read_pass(
    index: CorpusIndex,
    store: str | None,
    settings: StorageSettings,
    *,
    epoch: int = 0,
    seconds: float | None = None,
    most: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> PassReport:
    """Decode the utterances of an epoch in the order of training, until ``seconds`` or ``most`` are over.

    ``part`` (number, of how many): of each step's utterances every such one, as one of several readers.
    """
    plan = BatchPlan(index, _BATCHES, _COST, seed=0)
    first = epoch * plan.steps_per_epoch
    storage = Storage([(index, store)], settings, Future(plan, first + plan.steps_per_epoch))
    begun, count, samples = clock.monotonic(), 0, 0
    try:
        for step, row in _rows(plan, first, part):
            storage.at(step)
            heard = read_utterance(index.utterance(row), row, storage, in_order=True)
            count, samples = count + 1, samples + len(heard)
            if count == most or (seconds is not None and clock.monotonic() - begun > seconds):
                break
        took = clock.monotonic() - begun
    finally:
        storage.close()
    total = storage.meter.total
    latency = {part: storage.meter.latency(part) for part in (0.5, 0.99)}
    return PassReport(
        utterances=count,
        seconds=took,
        audio_seconds=samples / SAMPLE_RATE,
        store_bytes=total.store_bytes,
        disk_bytes=total.disk_bytes,
        fetched_bytes=total.fetched_bytes,
        hedged_bytes=total.hedged_bytes,
        overread_bytes=total.overread_bytes,
        retries=total.retries,
        wait_seconds=total.wait_seconds,
        read_ms_p50=None if latency[0.5] is None else 1000 * latency[0.5],
        read_ms_p99=None if latency[0.99] is None else 1000 * latency[0.99],
    )


def rate_of_run(run: Path) -> float:
    """Seconds of speech a second that one worker of a run learnt from. Raises :class:`RunError`."""
    path = run / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        return float(summary["audio_per_second"]) / int(summary["workers"])
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{path}: cannot be read: {error!r}", "Name the folder of a run that has ended."
        ) from error


def _rows(plan: BatchPlan, first: int, part: tuple[int, int]) -> Iterator[tuple[int, int]]:
    for step in range(first, first + plan.steps_per_epoch):
        for spec in plan.global_batch(step).micro_batches:
            for row in spec.rows[part[0] :: part[1]].tolist():
                yield step, row
