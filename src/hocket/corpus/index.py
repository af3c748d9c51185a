"""The index of a split: columns in one Arrow file, mapped into memory and never copied.

A row is an utterance. Rows of a training split stand in a keyed, shuffled order that was fixed when
the corpus was prepared, so every block of neighbouring rows is a random sample of the corpus. What
batching needs (``num_samples``, ``num_tokens``, ``block``, ``key``) are numpy views of the file: a
hundred million rows cost no memory per worker beyond the pages that are read, and what is a sum or a
border over all of them stands in the file's head.

Where a row's audio lies follows from the index alone, a file of its own, or, when the corpus was cut into
shards, from the table beside it (:mod:`hocket.corpus.shards.places`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hocket.core.errors import CorpusError
from hocket.core.seeds import I64, U64
from hocket.corpus.audio import Member
from hocket.corpus.columns import ColumnFile, ColumnWriter
from hocket.corpus.shards.places import Places

VERSION = 1
FILE = "index.arrow"
I32 = npt.NDArray[np.int32]
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Utterance:
    """One row, in full."""

    id: str
    audio: Path
    channel: int | None
    """The channel that is heard; None averages all."""
    start: int
    """First sample, at the file's own rate."""
    num: int
    """Number of samples, at the file's own rate."""
    sample_rate: int
    """The file's own rate, in Hz."""
    text: str
    speaker: str | None
    member: Member | None = None
    """Where in ``audio`` the recording lies, when that is a shard."""


@dataclass(frozen=True)
class Row:
    """What :func:`write` needs to know of an utterance."""

    utterance: Utterance
    num_samples: int
    """At 16 kHz."""
    token_ids: Sequence[int]
    key: int


SCHEMA: dict[str, pa.DataType] = {
    "id": pa.large_string(),
    "audio": pa.large_string(),
    "channel": pa.int32(),
    "start": pa.int64(),
    "num": pa.int64(),
    "sample_rate": pa.int32(),
    "text": pa.large_string(),
    "speaker": pa.int32(),
    "num_samples": pa.int64(),
    "num_tokens": pa.int32(),
    "token_ids": pa.large_list(pa.int32()),
    "block": pa.int32(),
    "key": pa.uint64(),
}
_WORDS, _NUMBERS = ("id", "audio", "text"), ("channel", "start", "num", "sample_rate")


class CorpusIndex:
    """An index opened for reading. Copying it to another process opens the file there again."""

    num_samples: I64
    """Samples at 16 kHz."""
    num_tokens: I32
    speaker: I32
    """Codes: positions in :attr:`speakers`; -1 where nobody knows."""
    block: I32
    """Never decreasing from row to row, 0 to ``num_blocks - 1``."""
    key: U64
    """Of the utterance id, ``core.seeds.key("utterance", id)``: what randomness is keyed by."""

    def __init__(self, folder: Path, split: str) -> None:
        path = folder / split / FILE
        try:
            self._file = ColumnFile(path)
        except FileNotFoundError:
            raise CorpusError(f"{folder}: no split {split!r}{_splits(folder)}") from None
        self._meta = self._file.metadata
        if self._meta.get("version") != VERSION:
            raise CorpusError(
                f"{path}: index version {self._meta.get('version')}, this hocket reads {VERSION}",
                "Prepare the corpus again.",
            )
        self.folder, self.split = folder, split
        for name in ("num_samples", "num_tokens", "speaker", "block", "key"):
            setattr(self, name, self._file.view(name))
        self._words = {name: self._file.column(name) for name in _WORDS}
        self._numbers = {name: self._file.view(name) for name in _NUMBERS}
        tokens = self._file.column("token_ids")
        self._offsets: I64 = tokens.offsets.to_numpy(zero_copy_only=True)
        self._token_ids: I32 = tokens.values.to_numpy(zero_copy_only=True)
        self.places = Places.find(folder, split, self.fingerprint, len(self))
        """Where rows lie in shards; None where each has a file."""

    @staticmethod
    def open(folder: Path, split: str) -> CorpusIndex:
        """Map the index of a split. Raises :class:`CorpusError` when there is none or it is damaged."""
        return CorpusIndex(folder, split)

    def __reduce__(self) -> tuple[Callable[[Path, str], CorpusIndex], tuple[Path, str]]:
        return CorpusIndex, (self.folder, self.split)

    def __len__(self) -> int:
        return len(self._file)

    @property
    def fingerprint(self) -> str:
        """A hash of ids, lengths, texts, tokens, blocks and their order; paths do not count."""
        return str(self._meta["fingerprint"])

    @property
    def speakers(self) -> list[str]:
        """Names by speaker code."""
        return list(self._meta["speakers"])

    @property
    def num_speakers(self) -> int:
        """One more than the largest code in :attr:`speaker`."""
        return len(self._meta["speakers"])

    @cached_property
    def total_samples(self) -> int:
        """Samples of all rows, at 16 kHz."""
        kept = self._meta.get("total_samples")
        return int(self.num_samples.sum(dtype=np.int64)) if kept is None else int(kept)

    @cached_property
    def block_starts(self) -> I64:
        """The first row of each block, and the number of rows."""
        stretches = self._meta.get("stretches")
        if stretches is None:  # written by a hocket that did not keep them
            num = int(self.block[-1]) + 1 if len(self) else 0
            return np.searchsorted(self.block, np.arange(num + 1), side="left").astype(np.int64)
        ends = [first for first, _ in stretches[1:]] + [len(self)]
        parts = [np.arange(first, end, size) for (first, size), end in zip(stretches, ends, strict=True)]
        return np.concatenate([*parts, [len(self)]]).astype(np.int64)

    @property
    def num_blocks(self) -> int:
        """Blocks of rows."""
        return len(self.block_starts) - 1

    @property
    def stretches(self) -> list[tuple[int, int]]:
        """First row and block size of each part that was written at a time."""
        kept = self._meta.get("stretches")
        if kept is not None:
            return [(int(first), int(size)) for first, size in kept]
        size = int(self.block_starts[1]) if self.num_blocks else 1
        return [(0, size)]

    def slice(self, first: int, last: int) -> Any:
        """Rows ``first`` to ``last`` (exclusive) as a record batch of Arrow, not copied."""
        return self._file.batch.slice(first, last - first)

    def id(self, row: int) -> str:
        """The utterance's id."""
        return self._word("id", row)

    def key_of(self, row: int) -> int:
        """What randomness of the utterance is keyed by."""
        return int(self.key[row])

    def samples_of(self, row: int) -> int:
        """Its samples at 16 kHz."""
        return int(self.num_samples[row])

    def token_ids(self, row: int) -> I32:
        """The utterance's tokens, a view of the file."""
        return self._token_ids[self._offsets[row] : self._offsets[row + 1]]

    def utterance(self, row: int) -> Utterance:
        """The row in full. Of a corpus in shards ``audio`` is the shard, where it lies in this folder."""
        channel, start, num, sample_rate = (int(self._numbers[name][row]) for name in _NUMBERS)
        speaker = int(self.speaker[row])
        member = None
        if self.places is None:
            audio = self.folder / self._word("audio", row)
        else:
            audio, member, start = self.places.file_of(int(row))
        return Utterance(
            id=self._word("id", row),
            audio=audio,
            channel=None if channel < 0 else channel,
            start=start,
            num=num,
            sample_rate=sample_rate,
            text=self._word("text", row),
            speaker=None if speaker < 0 else self._meta["speakers"][speaker],
            member=member,
        )

    def _word(self, name: str, row: int) -> str:
        return str(self._words[name][row].as_py())


class IndexWriter:
    """Writes the index of a split row by row; nothing is there before :meth:`finish`.

    An audio path that is not absolute is taken from ``folder`` when the index is read.
    """

    def __init__(self, folder: Path, split: str, block_size: int, tokens_fingerprint: str) -> None:
        path = folder / split / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self._split, self._block_size = split, block_size
        self._columns = ColumnWriter(path, SCHEMA)
        self._names: dict[str, int] = {}
        self._total, self._first_block = 0, 0
        self._stretches: list[tuple[int, int]] = [(0, block_size)]
        self._digest = hashlib.sha256(json.dumps([VERSION, split, block_size, tokens_fingerprint]).encode())

    def __enter__(self) -> IndexWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        self._columns.__exit__(*error)

    def continue_from(self, before: CorpusIndex) -> None:
        """Begin with all rows of another index; what is added next stands in blocks of its own."""
        if self._columns.num_rows:
            raise ValueError("rows were added already")
        for first in range(0, len(before), _CHUNK):
            chunk = before.slice(first, first + _CHUNK)
            self._columns.add({name: chunk.column(name) for name in SCHEMA})
        self._names = {name: code for code, name in enumerate(before.speakers)}
        self._total, self._first_block = before.total_samples, before.num_blocks
        self._stretches = [*before.stretches, (len(before), self._block_size)]
        self._digest = hashlib.sha256(json.dumps([before.fingerprint, self._block_size]).encode())

    def add(self, rows: Sequence[Row]) -> None:
        """Append utterances, in the order given."""
        utterances = [row.utterance for row in rows]
        lengths = [len(row.token_ids) for row in rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        flat = np.asarray([number for row in rows for number in row.token_ids], np.int32)
        here = np.arange(len(rows)) + self._columns.num_rows - self._stretches[-1][0]
        codes = [
            -1 if u.speaker is None else self._names.setdefault(u.speaker, len(self._names))
            for u in utterances
        ]
        for row in rows:
            u = row.utterance
            self._digest.update(json.dumps([u.id, row.num_samples, u.text, list(row.token_ids)]).encode())
        self._total += sum(row.num_samples for row in rows)
        self._columns.add(
            {
                "id": [u.id for u in utterances],
                "audio": [u.audio.as_posix() for u in utterances],
                "channel": [-1 if u.channel is None else u.channel for u in utterances],
                "start": [u.start for u in utterances],
                "num": [u.num for u in utterances],
                "sample_rate": [u.sample_rate for u in utterances],
                "text": [u.text for u in utterances],
                "speaker": codes,
                "num_samples": [row.num_samples for row in rows],
                "num_tokens": np.asarray(lengths, np.int32),
                "token_ids": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat)),
                "block": (here // self._block_size + self._first_block).astype(np.int32),
                "key": np.asarray([row.key for row in rows], np.uint64),
            }
        )

    def finish(self) -> str:
        """Put the index in its place; its fingerprint."""
        names = sorted(self._names)
        if names != list(self._names):  # codes stand for sorted names, in whatever order they came
            code = {name: number for number, name in enumerate(names)}
            now = np.asarray([*(code[name] for name in self._names), -1], np.int32)
            column = self._columns.map("speaker")
            for first in range(0, len(column), _CHUNK):
                column[first : first + _CHUNK] = now[column[first : first + _CHUNK]]
        fingerprint = self._digest.hexdigest()[:16]
        self._columns.finish(
            {
                "version": VERSION,
                "split": self._split,
                "fingerprint": fingerprint,
                "speakers": names,
                "total_samples": self._total,
                "stretches": self._stretches,
            }
        )
        return fingerprint


def write(folder: Path, split: str, rows: Iterable[Row], block_size: int, tokens_fingerprint: str) -> str:
    """Write the index of a split, rows in the order given; return its fingerprint."""
    with IndexWriter(folder, split, block_size, tokens_fingerprint) as writer:
        _add_all(writer, rows)
        return writer.finish()


def append(folder: Path, split: str, rows: Iterable[Row], block_size: int) -> str:
    """Put rows after those of an index; return its new fingerprint.

    They stand in blocks of their own, behind all there were, whose rows and blocks stay what they are.
    The fingerprint is that of the old one and the new rows. Raises :class:`CorpusError` when an id is
    there already, or when the corpus is in shards, which would not hold the new rows.
    """
    before = CorpusIndex.open(folder, split)
    if before.places is not None:
        raise CorpusError(
            f"{folder}: {split} is in shards", "Append to the corpus that they were cut from, and cut again."
        )
    with IndexWriter(folder, split, block_size, "") as writer:
        writer.continue_from(before)
        _add_all(writer, rows, before)
        return writer.finish()


def _add_all(writer: IndexWriter, rows: Iterable[Row], before: CorpusIndex | None = None) -> None:
    source = iter(rows)
    new = _New(before) if before is not None else None
    while chunk := list(islice(source, 8192)):
        if new is not None:
            new.check(chunk)
        writer.add(chunk)


class _New:
    """Ids that are neither in an index nor among those that were added to it."""

    def __init__(self, before: CorpusIndex) -> None:
        self._before, self._known, self._added = before, np.sort(before.key), set[int]()

    def check(self, rows: Sequence[Row]) -> None:
        """Raise :class:`CorpusError` for an id that was there before."""
        keys = np.asarray([row.key for row in rows], np.uint64)
        first, last = np.searchsorted(self._known, keys), np.searchsorted(self._known, keys, side="right")
        for row, known in zip(rows, (first < last).tolist(), strict=True):
            if known or row.key in self._added:
                place = f"{self._before.folder}: {self._before.split}"
                raise CorpusError(
                    f"{place}: the id {row.utterance.id!r} is there already",
                    "Every utterance needs its own id.",
                )
            self._added.add(row.key)


def _splits(folder: Path) -> str:
    there = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if not there:
        return "; this is no prepared corpus (hocket prepare makes one)"
    return f"; it has {', '.join(there)}"
