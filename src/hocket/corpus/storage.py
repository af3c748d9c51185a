"""The audio of corpora in shards, from the nearest place that has it: memory, this host's disk, the store.

What is read is a block, one range of one shard, as all of its utterances are needed within a few steps.
Where the future is known (in training) threads read ahead in its order: onto the disk of this host, for all
its processes, where the store is far away, else into memory. Every recording's checksum is looked at when
its block comes into memory, from wherever.
"""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from hocket.core import clock
from hocket.core.errors import CorpusError
from hocket.core.seeds import I64
from hocket.corpus import audio
from hocket.corpus.block_cache import F64, BlockCache, NextUse
from hocket.corpus.block_memory import BlockMemory
from hocket.corpus.index import CorpusIndex, Utterance
from hocket.corpus.read_ahead import ReadAhead
from hocket.corpus.shard_source import Future, ShardSource, StorageSettings
from hocket.corpus.storage_meter import Meter


class Storage:
    """Recordings by row, of one corpus or of several, one after another; of those in shards."""

    def __init__(
        self,
        corpora: Sequence[tuple[CorpusIndex, str | None]],
        settings: StorageSettings,
        future: Future | None = None,
    ) -> None:
        """``corpora``: each with the address of its shards, None for its own folder."""
        self._ends = list(accumulate(len(index) for index, _ in corpora))
        self._future, self._settings = future, settings
        self.meter = Meter()
        self._sources = [
            None if index.places is None else ShardSource(index, index.places, store, settings, self.meter)
            for index, store in corpora
        ]
        self._memory = BlockMemory(settings.memory_mb << 20)
        self._ahead: ReadAhead | None = None
        if future is not None:
            self._ahead = ReadAhead(
                self._sources,
                self._memory,
                future,
                self.meter,
                most_readers=settings.requests,
                most_bytes=settings.memory_mb << 19,
            )
        self._cache = self._open_cache()

    @staticmethod
    def open(
        corpora: Sequence[tuple[CorpusIndex, str | None]],
        settings: StorageSettings,
        future: Future | None = None,
    ) -> Storage | None:
        """Storage, or None when each utterance of all corpora has a file of its own.

        Raises :class:`CorpusError` when a store was named for such a corpus, or holds other shards.
        """
        for index, store in corpora:
            if index.places is None and store is not None:
                raise CorpusError(
                    f"{index.folder}: {index.split} is not in shards, and so cannot be read from {store}",
                    "Prepare it again with --shards, and put the folder there.",
                )
        if all(index.places is None for index, _ in corpora):
            return None
        return Storage(corpora, settings, future)

    def read(self, row: int, *, in_order: bool) -> memoryview | None:
        """The recording of a row; None when it has a file of its own.

        ``in_order``: it is read in the order of training, so that its block is needed, too. Raises
        :class:`AudioError` for a recording that is damaged where it lies, and :class:`CorpusError` when
        the store cannot be read, or is not the one that the index knows.
        """
        corpus = bisect_right(self._ends, row)
        source = self._sources[corpus]
        if source is None:
            return None
        row -= self._ends[corpus - 1] if corpus else 0
        key = (corpus, int(source.index.block[row]))
        begun = clock.monotonic()
        if not in_order and key not in self._memory:
            kept = source.recording(row)
            if kept is None and (self._future is not None or not source.remote):
                kept = source.recording_alone(row)
            if kept is not None:
                self.meter.add(wait_seconds=clock.monotonic() - begun)
                return kept
        held, was_here = self._memory.get(key, partial(source.block, key[1]))
        size = int(source.places.size[row])
        if was_here:
            self.meter.add(memory_bytes=size)
        else:
            self.meter.add(wait_seconds=clock.monotonic() - begun)
            if self._ahead is not None:
                self._ahead.needed()
        if row in held.bad:
            raise source.damaged(row)
        return source.places.within(held.stretch, held.data, row)

    def at(self, step: int) -> None:
        """Training has come to this step: read ahead from there on."""
        if self._ahead is not None:
            self._ahead.at(step)

    def close(self) -> None:
        """End the reading ahead, and whoever waits for a store; what is on the disk stays."""
        if self._ahead is not None:
            self._ahead.stop()
        for source in self._sources:
            if source is not None:
                source.fetcher.stop()
        if self._ahead is not None:
            self._ahead.join()
        for source in self._sources:
            if source is not None:
                source.fetcher.store.close()
        if self._cache is not None:
            self._cache.close()
            self._cache = None

    def _open_cache(self) -> BlockCache | None:
        if self._settings.cache_gb == 0 or not any(s is not None and s.remote for s in self._sources):
            return None
        folder = self._settings.cache or Path(tempfile.gettempdir()) / f"hocket-cache-{os.getuid()}"
        try:
            cache = BlockCache(folder, int(self._settings.cache_gb * 1e9))
            for number, source in enumerate(self._sources):
                if source is not None and source.remote:
                    source.shelf = cache.shelf(
                        f"{source.index.split}-{source.places.fingerprint}",
                        source.index.num_blocks,
                        self._now,
                        self._next_use(number),
                    )
        except OSError as error:
            raise CorpusError(
                f"{folder}: cannot hold blocks of shards: {error.strerror}",
                "Name another folder with loading.storage.cache, or set loading.storage.cache_gb to 0.",
            ) from error
        return cache

    def _now(self) -> float:
        return 0.0 if self._ahead is None else float(self._ahead.step)

    def _next_use(self, corpus: int) -> NextUse | None:
        future = self._future
        if future is None:
            return None

        def uses(blocks: I64) -> F64:
            return future.next_use(corpus, blocks, int(self._now()))

        return uses


def read_utterance(
    utterance: Utterance, row: int, storage: Storage | None, *, in_order: bool = False
) -> audio.Samples:
    """An utterance at 16 kHz, through ``storage`` where it is in shards. Raises :class:`AudioError`."""
    recording = None if storage is None else storage.read(row, in_order=in_order)
    inside = utterance.member if recording is None else recording
    return audio.read(utterance.audio, utterance.channel, utterance.start, utterance.num, inside)
