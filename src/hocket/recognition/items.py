"""Utterances to recognise, and a list of many of them that lies in a file."""

from __future__ import annotations

import os
import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Item:
    """An utterance of the input: what to read, and what is known of it."""

    id: str
    audio: Path
    member: tuple[int, int] | None = None
    """Where ``audio`` is a tar file: first byte and number of bytes of the recording in it."""
    channel: int | None = None
    """The channel that is heard; None averages all."""
    start: int = 0
    """First sample, at the file's own rate."""
    num: int | None = None
    """Number of samples at the file's own rate; None for all from ``start`` on."""
    sample_rate: int | None = None
    """The file's own rate in Hz, where ``start`` and ``num`` count on it."""
    part: tuple[float, float] | None = None
    """Start and duration in seconds where the file's rate is not known yet; instead of start and num."""
    num_samples_16k: int | None = None
    """Length at 16 kHz where a prepared corpus knows it."""
    ref: str | None = None
    speaker: str | None = None
    problem: str | None = None
    """Why this line of the input is no utterance; it is listed as failed."""


class ItemList:
    """A list of items that is appended to and read by position, in a temporary file without a name.

    Eight bytes of memory an item, so that an archive of millions does not fill the coordinator.
    """

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the list
        self._ends = array("q", [0])
        self._waiting = bytearray()
        for item in items:
            self.append(item)

    def append(self, item: Item) -> None:
        """Add an item at the end."""
        data = pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
        self._waiting += data
        self._ends.append(self._ends[-1] + len(data))
        if len(self._waiting) > 1 << 20:
            self._flush()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, position: int) -> Item:
        """The item at a position from 0 on."""
        if not 0 <= position < len(self):
            raise IndexError(position)
        self._flush()
        start, end = self._ends[position], self._ends[position + 1]
        item = pickle.loads(os.pread(self._file.fileno(), end - start, start))
        assert isinstance(item, Item)
        return item

    def __iter__(self) -> Iterator[Item]:
        return (self[position] for position in range(len(self)))

    def _flush(self) -> None:
        if self._waiting:
            os.pwrite(self._file.fileno(), self._waiting, self._ends[-1] - len(self._waiting))
            self._waiting.clear()
