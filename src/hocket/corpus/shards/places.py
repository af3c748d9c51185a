"""Where the utterances of a split lie in its shards: which tar, from which byte, with which checksum.

Two small files beside the index, mapped like it::

    SPLIT/places.arrow    a row for each row of the index: shard, offset, size, crc, start
    SPLIT/blocks.arrow    a row for each block of the index: shard, offset, length
    SPLIT/shar/           recording.NNNNNN.tar and cuts.NNNNNN.jsonl.gz, a Shar of lhotse

A block lies in one shard, its utterances one after another, so a block is one stretch of bytes, and so is
an utterance. The fingerprint is of the index and of all shards' bytes.
"""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hocket.core.errors import CorpusError
from hocket.core.seeds import I64
from hocket.corpus.audio import Member
from hocket.corpus.columns import ColumnFile, ColumnWriter, Schema

VERSION = 1
FILE, BLOCKS, SHAR = "places.arrow", "blocks.arrow", "shar"
ITEMS: Schema = {
    "shard": pa.int32(),
    "offset": pa.int64(),
    "size": pa.int64(),
    "crc": pa.uint32(),
    "start": pa.int64(),
}
"""``offset`` and ``size`` in bytes; ``crc`` CRC-32 (zlib) of the item; ``start`` the first sample that is
heard, in the item and at its own rate."""
STRETCHES: Schema = {"shard": pa.int32(), "offset": pa.int64(), "length": pa.int64()}


@dataclass(frozen=True)
class Shard:
    """One tar."""

    name: str
    """``SPLIT/shar/recording.NNNNNN.tar``: from the corpus's folder, or from the address of its store."""
    size: int
    sha256: str
    num_rows: int


@dataclass(frozen=True)
class Stretch:
    """Bytes of a shard, and the rows whose recordings lie in them."""

    shard: Shard
    offset: int
    length: int
    first_row: int
    last_row: int
    """Exclusive."""


class Places:
    """The places of one split; numbers are views of the files."""

    def __init__(self, folder: Path, items: ColumnFile, blocks: ColumnFile) -> None:
        meta = items.metadata
        self.fingerprint = str(meta["fingerprint"])
        self.shards = tuple(Shard(**shard) for shard in meta["shards"])
        self.shard: npt.NDArray[np.int32] = items.view("shard")
        self.offset: I64 = items.view("offset")
        self.size: I64 = items.view("size")
        self.crc: npt.NDArray[np.uint32] = items.view("crc")
        self.start: I64 = items.view("start")
        self._block_shard: npt.NDArray[np.int32] = blocks.view("shard")
        self._block_offset: I64 = blocks.view("offset")
        self.block_length: I64 = blocks.view("length")
        """Bytes of each block, headers between its recordings included."""
        self._folder, self._paths = folder, dict[int, Path]()

    @staticmethod
    def find(folder: Path, split: str, index: str, num_rows: int) -> Places | None:
        """The places of a split; None where every utterance has a file of its own.

        Raises :class:`CorpusError` when they are of another index, or damaged.
        """
        try:
            items = ColumnFile(folder / split / FILE)
        except FileNotFoundError:
            return None
        try:
            blocks = ColumnFile(folder / split / BLOCKS)
        except FileNotFoundError:
            raise CorpusError(
                f"{folder / split / BLOCKS}: it is not there, and {FILE} is",
                "Copy the folder again, whole, or cut the shards again: hocket prepare SOURCE OUT --shards",
            ) from None
        meta = items.metadata
        if meta.get("version") != VERSION or meta.get("index") != index or len(items) != num_rows:
            raise CorpusError(
                f"{items.path}: the shards are of another corpus than the index beside them",
                "Cut them again: hocket prepare SOURCE OUT --shards",
            )
        return Places(folder, items, blocks)

    def file_of(self, row: int) -> tuple[Path, Member, int]:
        """Shard, bytes in it, and first sample of a row, where the shards lie in the corpus's folder."""
        number = int(self.shard[row])
        path = self._paths.get(number)
        if path is None:  # to join one takes longer than all the rest
            path = self._paths[number] = self._folder / self.shards[number].name
        return path, (int(self.offset[row]), int(self.size[row])), int(self.start[row])

    def stretch(self, block: int, block_starts: I64) -> Stretch:
        """The bytes of a block."""
        return Stretch(
            self.shards[int(self._block_shard[block])],
            int(self._block_offset[block]),
            int(self.block_length[block]),
            int(block_starts[block]),
            int(block_starts[block + 1]),
        )

    def item(self, row: int) -> Stretch:
        """The bytes of one row alone."""
        shard = self.shards[int(self.shard[row])]
        return Stretch(shard, int(self.offset[row]), int(self.size[row]), row, row + 1)

    def within(self, stretch: Stretch, data: memoryview, row: int) -> memoryview:
        """The recording of a row, out of the bytes of a stretch that holds it; a view."""
        first = int(self.offset[row]) - stretch.offset
        return data[first : first + int(self.size[row])]

    def damaged(self, stretch: Stretch, data: memoryview) -> list[int]:
        """Rows of a stretch whose bytes are not what they were when the shard was written."""
        return [
            row
            for row in range(stretch.first_row, stretch.last_row)
            if zlib.crc32(self.within(stretch, data, row)) != int(self.crc[row])
        ]


def write(folder: Path, split: str, index: str, fingerprint: str, shards: list[tuple[Shard, Any]]) -> None:
    """Write the places of a split: its shards in order, each with the columns of its items and blocks."""
    items_path, blocks_path = folder / split / FILE, folder / split / BLOCKS
    meta = {
        "version": VERSION,
        "index": index,
        "fingerprint": fingerprint,
        "shards": [asdict(shard) for shard, _ in shards],
    }
    with ColumnWriter(items_path, ITEMS) as items, ColumnWriter(blocks_path, STRETCHES) as blocks:
        for number, (_, columns) in enumerate(shards):
            rows, stretches = len(columns["offset"]), len(columns["block_offset"])
            items.add(
                {
                    "shard": np.full(rows, number, np.int32),
                    **{name: columns[name] for name in ("offset", "size", "crc", "start")},
                }
            )
            blocks.add(
                {
                    "shard": np.full(stretches, number, np.int32),
                    "offset": columns["block_offset"],
                    "length": columns["block_length"],
                }
            )
        blocks.finish({})
        items.finish(meta)  # the last: without it there are no shards
