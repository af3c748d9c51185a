"""The order of an epoch: blocks in a keyed order, and in each block items in a keyed order.

Only the blocks' order is held. The utterances at positions ``first .. last`` of the epoch follow
from the few blocks they fall into, so that a reader of shards opens few of them at a time, and the
middle of an epoch over any number of utterances is as near as its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hocket.core.seeds import U64, key, mix

I64 = npt.NDArray[np.int64]


class Utterances(Protocol):
    """The columns that cutting needs; a corpus index has them. One entry per utterance."""

    @property
    def num_samples(self) -> npt.NDArray[np.int64]:
        """Samples at 16 kHz."""
        ...

    @property
    def num_tokens(self) -> npt.NDArray[np.int32]:
        """Tokens of the text."""
        ...

    @property
    def speaker(self) -> npt.NDArray[np.int32]:
        """Code of the speaker; -1 where nobody knows."""
        ...

    @property
    def num_speakers(self) -> int:
        """One more than the largest code in ``speaker``; 0 where nobody knows any."""
        ...

    @property
    def total_samples(self) -> int:
        """The sum of ``num_samples``."""
        ...

    @property
    def block_starts(self) -> I64:
        """Row at which each block starts, and the number of rows at the end."""
        ...

    @property
    def key(self) -> U64:
        """A key of the utterance's id."""
        ...


class EpochOrder:
    """Positions of one epoch to rows of the index, a keyed bijection."""

    def __init__(self, block_starts: I64, keys: U64, seed: int, epoch: int) -> None:
        num_blocks = len(block_starts) - 1
        salt = key("order of blocks", seed, epoch)
        self._blocks = np.argsort(mix(salt, np.arange(num_blocks, dtype=np.uint64)), kind="stable")
        sizes = np.diff(block_starts)[self._blocks]
        self._ends = np.cumsum(sizes)
        self._starts = block_starts
        self._keys = keys
        self._salt = key("order of items", seed, epoch)

    def rows(self, first: int, last: int) -> I64:
        """Rows of the index at positions ``first`` (inclusive) to ``last`` (exclusive)."""
        from_block = int(np.searchsorted(self._ends, first, side="right"))
        to_block = int(np.searchsorted(self._ends, last, side="left"))
        parts = [self._items(block) for block in range(from_block, min(to_block + 1, len(self._ends)))]
        if not parts:
            return np.empty(0, np.int64)
        before = int(self._ends[from_block - 1]) if from_block else 0
        return np.concatenate(parts)[first - before : last - before]

    def _items(self, place: int) -> I64:
        """The rows of the block at ``place`` of this epoch, in this epoch's order."""
        block = self._blocks[place]
        first, last = int(self._starts[block]), int(self._starts[block + 1])
        order = np.argsort(mix(self._salt, np.asarray(self._keys[first:last])), kind="stable")
        return order + first

    @cached_property
    def _places(self) -> I64:
        places = np.empty(len(self._blocks), np.int64)
        places[self._blocks] = np.arange(len(self._blocks))
        return places

    def extents(self, blocks: I64) -> tuple[I64, I64]:
        """First and last (exclusive) position of blocks in this epoch."""
        ends = self._ends[self._places[blocks]]
        return ends - (self._starts[blocks + 1] - self._starts[blocks]), ends

    def blocks(self, first: int) -> Iterator[tuple[int, int]]:
        """Blocks in this epoch's order from the one at position ``first`` on, each with its position."""
        place = int(np.searchsorted(self._ends, first, side="right"))
        begin = int(self._ends[place - 1]) if place else 0
        for number in range(place, len(self._blocks)):
            yield begin, int(self._blocks[number])
            begin = int(self._ends[number])


def block_starts(block: npt.NDArray[np.int32]) -> I64:
    """``Utterances.block_starts`` of a column of block numbers, which never decrease."""
    if len(block) == 0:
        return np.zeros(1, np.int64)
    return np.searchsorted(block, np.arange(int(block[-1]) + 2), side="left").astype(np.int64)
