"""The index of a split: columns in one Arrow file, mapped into memory and never copied.

A row is an utterance. Rows of a training split stand in a keyed, shuffled order that was fixed when
the corpus was prepared, so every block of neighbouring rows is a random sample of the corpus. What
batching needs (``num_samples``, ``num_tokens``, ``block``, ``key``) are numpy views of the file: a
hundred million rows cost no memory per worker beyond the pages that are read.

Format: Arrow IPC file, one record batch, no nulls (https://arrow.apache.org/docs/format/Columnar.html).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hocket.core.errors import CorpusError
from hocket.core.seeds import U64
from hocket.core.work import I64

VERSION = 1
FILE = "index.arrow"
I32 = npt.NDArray[np.int32]


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


@dataclass(frozen=True)
class Row:
    """What :func:`write` needs to know of an utterance."""

    utterance: Utterance
    num_samples: int
    """At 16 kHz."""
    token_ids: Sequence[int]
    key: int


_SCHEMA: dict[str, pa.DataType] = {
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
            self._map = pa.memory_map(str(path))
            self._batch: Any = pa.ipc.open_file(self._map).get_batch(0)
            self._meta: dict[str, Any] = json.loads(self._batch.schema.metadata[b"hocket"])
        except FileNotFoundError:
            raise CorpusError(f"{folder}: no split {split!r}{_splits(folder)}") from None
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{path}: not an index of a corpus: {error}", "Prepare it again.") from error
        if self._meta["version"] != VERSION:
            raise CorpusError(
                f"{path}: index version {self._meta['version']}, this hocket reads {VERSION}",
                "Prepare the corpus again.",
            )
        self.folder, self.split = folder, split
        for name in ("num_samples", "num_tokens", "speaker", "block", "key"):
            setattr(self, name, self._column(name).to_numpy(zero_copy_only=True))
        tokens = self._column("token_ids")
        self._offsets: I64 = tokens.offsets.to_numpy(zero_copy_only=True)
        self._token_ids: I32 = tokens.values.to_numpy(zero_copy_only=True)

    @staticmethod
    def open(folder: Path, split: str) -> CorpusIndex:
        """Map the index of a split. Raises :class:`CorpusError` when there is none or it is damaged."""
        return CorpusIndex(folder, split)

    def __reduce__(self) -> tuple[Callable[[Path, str], CorpusIndex], tuple[Path, str]]:
        return CorpusIndex, (self.folder, self.split)

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    @property
    def fingerprint(self) -> str:
        """A hash of ids, lengths, texts, tokens, blocks and their order; paths do not count."""
        return str(self._meta["fingerprint"])

    @property
    def speakers(self) -> list[str]:
        """Names by speaker code."""
        return list(self._meta["speakers"])

    @property
    def num_blocks(self) -> int:
        """Blocks of rows."""
        return int(self.block[-1]) + 1 if len(self) else 0

    def id(self, row: int) -> str:
        """The utterance's id."""
        return str(self._column("id")[row].as_py())

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
        """The row in full."""
        value = {name: self._column(name)[row].as_py() for name in _SCHEMA if name != "token_ids"}
        return Utterance(
            id=value["id"],
            audio=self.folder / value["audio"],
            channel=None if value["channel"] < 0 else value["channel"],
            start=value["start"],
            num=value["num"],
            sample_rate=value["sample_rate"],
            text=value["text"],
            speaker=None if value["speaker"] < 0 else self._meta["speakers"][value["speaker"]],
        )

    def _column(self, name: str) -> Any:
        return self._batch.column(name)


def write(folder: Path, split: str, rows: Sequence[Row], block_size: int, tokens_fingerprint: str) -> str:
    """Write the index of a split, rows in the order given; return its fingerprint.

    An audio path that is not absolute is taken from ``folder`` when the index is read.
    """
    names = sorted({row.utterance.speaker for row in rows if row.utterance.speaker is not None})
    codes: dict[str | None, int] = {name: code for code, name in enumerate(names)}
    codes[None] = -1
    utterances = [row.utterance for row in rows]
    offsets = np.concatenate([[0], np.cumsum([len(row.token_ids) for row in rows])]).astype(np.int64)
    flat = [number for row in rows for number in row.token_ids]
    block = np.arange(len(rows), dtype=np.int32) // block_size
    columns: dict[str, Any] = {
        "id": [u.id for u in utterances],
        "audio": [u.audio.as_posix() for u in utterances],
        "channel": [-1 if u.channel is None else u.channel for u in utterances],
        "start": [u.start for u in utterances],
        "num": [u.num for u in utterances],
        "sample_rate": [u.sample_rate for u in utterances],
        "text": [u.text for u in utterances],
        "speaker": [codes[u.speaker] for u in utterances],
        "num_samples": [row.num_samples for row in rows],
        "num_tokens": np.diff(offsets).astype(np.int32),
        "token_ids": pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(flat, pa.int32())),
        "block": block,
        "key": np.asarray([row.key for row in rows], np.uint64),
    }
    arrays = [
        value if isinstance(value, pa.Array) else pa.array(value, _SCHEMA[name])
        for name, value in columns.items()
    ]
    digest = hashlib.sha256(json.dumps([VERSION, split, block_size, tokens_fingerprint]).encode())
    for row in rows:
        u = row.utterance
        digest.update(json.dumps([u.id, row.num_samples, u.text, list(row.token_ids)]).encode())
    fingerprint = digest.hexdigest()[:16]
    meta = {"version": VERSION, "split": split, "fingerprint": fingerprint, "speakers": names}
    schema = pa.schema(list(_SCHEMA.items()), metadata={"hocket": json.dumps(meta)})
    path = folder / split / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return fingerprint


def _splits(folder: Path) -> str:
    there = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
    if not there:
        return "; this is no prepared corpus (hocket prepare makes one)"
    return f"; it has {', '.join(there)}"
