"""One split in shards, and the store that its blocks come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from hocket.core.errors import AudioError, CorpusError
from hocket.core.recipe import Section
from hocket.core.seeds import I64
from hocket.corpus.index import CorpusIndex
from hocket.corpus.shards.places import Places, Stretch
from hocket.corpus.storage.block_cache import F64, Shelf
from hocket.corpus.storage.fetching import Fetcher
from hocket.corpus.storage.meter import Meter
from hocket.corpus.storage.stores import open_store

_CORPUS_FILE = "corpus.json"


class StorageSettings(Section):
    """How shards are read. None of it changes what is read."""

    cache: Path | None = None
    """Folder for blocks of shards that lie far away, shared by all processes of a host; by default one in
    the system's folder for temporary files."""

    cache_gb: float = Field(default=20.0, ge=0)
    """Size of that folder at most, all corpora together; 0 keeps nothing."""

    memory_mb: int = Field(default=256, ge=1)
    """Blocks in the memory of each worker, in MiB."""

    requests: int = Field(default=8, ge=1, le=64)
    """Reads of a worker beside each other, at most; how many follows from what was measured: what is needed,
    and what the way to the store bears."""

    timeout_seconds: float = Field(default=20.0, gt=0)
    """After which a request is given up and sent anew; besides, it has the time that its bytes and all that
    are under way take at the rate of late, 1 s for each MB at least."""

    give_up_seconds: float = Field(default=180.0, gt=0)
    """After which a store that gives nothing ends the run."""

    hedge: bool = True
    """Ask a second time when an answer is later than nearly all were."""

    options: Mapping[str, Any] = Field(default_factory=dict)
    """For fsspec's file system, such as ``endpoint_url`` for S3."""


class Future(Protocol):
    """When blocks are needed: :class:`hocket.batching.future.Future`."""

    num_steps: int
    steps_ahead: int
    steps_soon: int

    def upcoming(self, step: int) -> Iterator[tuple[int, int, int]]:
        """From the pool of ``step`` on: (first step of the pool, corpus, block)."""
        ...

    def next_use(self, corpus: int, blocks: I64, step: int) -> F64:
        """The step at which each block is needed next."""
        ...


@dataclass(frozen=True)
class Held:
    """A block in memory."""

    stretch: Stretch
    data: memoryview
    bad: frozenset[int] = frozenset()
    """Rows whose bytes are damaged, also where they come from."""


class ShardSource:
    """Blocks and single recordings of a split, from the disk of this host or the store."""

    def __init__(
        self, index: CorpusIndex, places: Places, store: str | None, settings: StorageSettings, meter: Meter
    ) -> None:
        self.index, self.places, self._meter = index, places, meter
        self._starts = index.block_starts
        self.fetcher = Fetcher(
            open_store(store or index.folder, settings.requests, settings.options),
            meter,
            requests=settings.requests,
            timeout_seconds=settings.timeout_seconds,
            give_up_seconds=settings.give_up_seconds,
            hedge=settings.hedge,
        )
        self.remote = self.fetcher.store.remote
        self.shelf: Shelf | None = None
        """Where blocks are kept on this host; None where the store is as near."""
        if store is not None:
            self._same_shards()

    def stretch(self, block: int) -> Stretch:
        """The bytes of a block."""
        return self.places.stretch(block, self._starts)

    def block(self, block: int) -> Held:
        """A block, its checksums looked at; fetched by one process of this host alone, and kept there."""
        stretch, shelf = self.stretch(block), self.shelf
        held = self._kept(block, stretch)
        if held is not None:
            return held
        if shelf is None:
            return self._fetch(stretch)
        with shelf.fetching(block, self.fetcher.patience(stretch.length)):
            held = self._kept(block, stretch)  # somebody else may have been faster
            if held is None:
                held = self._fetch(stretch)
                self._keep(shelf, block, held)
            return held

    def recording(self, row: int) -> memoryview | None:
        """One recording from the disk of this host; None when its block is not there, or damaged."""
        if self.shelf is None:
            return None
        block = int(self.index.block[row])
        item = self.places.item(row)
        kept = self._on_disk(self.shelf, block, item.offset - self.stretch(block).offset, item.length)
        if kept is None or self.places.damaged(item, memoryview(kept)):
            return None
        self._meter.add(disk_bytes=len(kept))
        return memoryview(kept)

    def recording_alone(self, row: int) -> memoryview:
        """One recording from the store, without its block. Raises :class:`AudioError` when it is damaged."""
        item = self.places.item(row)
        data, bad = self._read(item)
        if bad:
            raise self.damaged(row)
        self._meter.add(store_bytes=len(data))
        return memoryview(data)

    def damaged(self, row: int) -> AudioError:
        """What to say of a row whose bytes are not what they were."""
        item = self.places.item(row)
        return AudioError(
            f"{self.fetcher.store.address}: {item.shard.name}: bytes {item.offset} to "
            f"{item.offset + item.length} are damaged: their checksum is another than when they were written"
        )

    def _kept(self, block: int, stretch: Stretch) -> Held | None:
        data = None if self.shelf is None else self._on_disk(self.shelf, block)
        if data is None or self.shelf is None:
            return None
        if len(data) != stretch.length or self.places.damaged(stretch, memoryview(data)):
            self._forget(self.shelf, block)
            return None
        self._meter.add(disk_bytes=self._recordings(stretch))
        return Held(stretch, memoryview(data))

    def _on_disk(self, shelf: Shelf, block: int, first: int = 0, length: int | None = None) -> bytes | None:
        """The bytes of a block, or of a part of it; None when they are not there, or cannot be read."""
        try:
            return shelf.get(block, first, length)
        except OSError:
            self._forget(shelf, block)
            return None

    def _forget(self, shelf: Shelf, block: int) -> None:
        """A block that is damaged where it is kept is fetched again."""
        self._meter.add(damaged=1)
        with suppress(OSError):  # of a disk that is broken
            shelf.drop(block)

    def _fetch(self, stretch: Stretch) -> Held:
        data, bad = self._read(stretch)
        if len(bad) == stretch.last_row - stretch.first_row > 1:
            raise CorpusError(
                f"{self.fetcher.store.address}: {stretch.shard.name} is another file than the index knows: "
                f"no checksum of bytes {stretch.offset} to {stretch.offset + stretch.length} holds",
                "Put the shards there that belong to the index, or prepare the corpus again.",
            )
        recordings = self._recordings(stretch)
        self._meter.add(store_bytes=recordings, overread_bytes=stretch.length - recordings)
        return Held(stretch, memoryview(data), frozenset(bad))

    def _keep(self, shelf: Shelf, block: int, held: Held) -> None:
        if held.bad:
            return
        try:
            shelf.put(block, held.data)
        except OSError:  # the disk is full, or broken: the block is in memory, and training goes on
            self._meter.add(not_kept=1)

    def _recordings(self, stretch: Stretch) -> int:
        return int(self.places.size[stretch.first_row : stretch.last_row].sum())

    def _read(self, stretch: Stretch) -> tuple[bytes, list[int]]:
        return self.fetcher.fetch(
            stretch.shard.name,
            stretch.shard.size,
            stretch.offset,
            stretch.length,
            lambda data: self.places.damaged(stretch, memoryview(data)),
        )

    def _same_shards(self) -> None:
        """A store that has a ``corpus.json`` says in it which shards it has."""
        store, split = self.fetcher.store, self.index.split
        told = self.fetcher.small_file(_CORPUS_FILE)
        if told is None:
            return  # the checksum of each recording is looked at anyway
        try:
            there = json.loads(told)["shards"][split]["fingerprint"]
        except (ValueError, LookupError, TypeError):
            raise CorpusError(
                f"{store.address}: {_CORPUS_FILE} there tells of no shards of {split}",
                "Put the folder there that hocket prepare --shards wrote.",
            ) from None
        if there != self.places.fingerprint:
            raise CorpusError(
                f"{store.address}: the shards of {split} there are others than those of {self.index.folder}",
                "Put the shards there that belong to the index, or take the index that belongs to them.",
            )
