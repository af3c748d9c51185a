"""Columns in one Arrow file: written in pieces of any size, read as views of the mapped file.

Arrow's own writer keeps what it writes together in memory, or cuts it into batches that cannot be viewed
as one array. Here each column goes to a file of its own while it grows; in the end all are mapped and
written as one batch, so that a hundred million rows take no more memory than the piece at hand.

Format: Arrow IPC file, one record batch, no nulls (https://arrow.apache.org/docs/format/Columnar.html).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from hocket.core import files
from hocket.core.errors import CorpusError

Schema = Mapping[str, pa.DataType]
"""Types by name: fixed-width numbers, ``large_string``, and ``large_list`` of numbers."""


class ColumnWriter:
    """Writes one file of columns; ``add`` pieces, then :meth:`finish`. Nothing is there before."""

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path, self._schema = path, dict(schema)
        self._folder = path.with_name(f".{path.name}.{os.getpid()}.columns")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._files: dict[str, BinaryIO] = {}
        self._ends = {name: 0 for name, kind in self._schema.items() if _is_long(kind)}
        for name in self._schema:
            self._files[name] = (self._folder / name).open("wb")
            if name in self._ends:
                self._files[f"{name}.values"] = (self._folder / f"{name}.values").open("wb")
                self._files[name].write(np.zeros(1, np.int64).tobytes())
        self.num_rows = 0

    def __enter__(self) -> ColumnWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, columns: Mapping[str, Any]) -> None:
        """Append rows: for every column an array of Arrow or numpy, or a list; all of one length."""
        arrays = {name: _array(columns[name], kind) for name, kind in self._schema.items()}
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) != 1:
            raise ValueError(f"columns of lengths {sorted(lengths)}")
        for name, array in arrays.items():
            if name not in self._ends:
                self._files[name].write(array.to_numpy(zero_copy_only=True).data)
                continue
            offsets = np.frombuffer(array.buffers()[1], np.int64)[
                array.offset : array.offset + len(array) + 1
            ]
            first, last = int(offsets[0]), int(offsets[-1])
            if pa.types.is_large_string(self._schema[name]):
                if last > first:
                    self._files[f"{name}.values"].write(memoryview(array.buffers()[2])[first:last])
            else:
                values = array.values.to_numpy(zero_copy_only=True)[first:last]
                self._files[f"{name}.values"].write(np.ascontiguousarray(values).data)
            self._files[name].write((offsets[1:] - first + self._ends[name]).data)
            self._ends[name] += last - first
        self.num_rows += lengths.pop()

    def map(self, name: str) -> Any:
        """A column as it is in its file so far, writable: to change numbers before :meth:`finish`."""
        self._files[name].flush()
        kind = self._schema[name].to_pandas_dtype()
        if self.num_rows == 0:
            return np.empty(0, kind)
        return np.memmap(self._folder / name, kind, "r+", shape=(self.num_rows,))

    def finish(self, metadata: Mapping[str, Any]) -> None:
        """Put the file in its place, whole, with ``metadata`` as JSON in its schema."""
        for file in self._files.values():
            file.close()
        schema = pa.schema(list(self._schema.items()), metadata={"hocket": json.dumps(dict(metadata))})
        arrays = [self._mapped(name, kind) for name, kind in self._schema.items()]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        whole = self._folder / "whole"
        with pa.OSFile(str(whole), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(batch)
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        whole.replace(self._path)
        files.fsync_dir(self._path.parent)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _mapped(self, name: str, kind: pa.DataType) -> Any:
        def buffer(part: str) -> Any:
            path = self._folder / part
            if path.stat().st_size == 0:
                return pa.py_buffer(b"")
            return pa.memory_map(str(path)).read_buffer()

        if name not in self._ends:
            return pa.Array.from_buffers(kind, self.num_rows, [None, buffer(name)])
        values = buffer(f"{name}.values")
        if pa.types.is_large_string(kind):
            return pa.Array.from_buffers(kind, self.num_rows, [None, buffer(name), values])
        inner = kind.value_type
        child = pa.Array.from_buffers(inner, self._ends[name], [None, values])
        return pa.Array.from_buffers(kind, self.num_rows, [None, buffer(name)], children=[child])


class ColumnFile:
    """A file of columns opened for reading. Raises :class:`CorpusError` when it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._map = pa.memory_map(str(path))
            self.batch: Any = pa.ipc.open_file(self._map).get_batch(0)
            self.metadata: dict[str, Any] = json.loads(self.batch.schema.metadata[b"hocket"])
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise CorpusError(f"{path}: not an index of a corpus: {error}", "Prepare it again.") from error

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.batch.schema.names

    def column(self, name: str) -> Any:
        """A column as Arrow has it."""
        return self.batch.column(name)

    def view(self, name: str) -> Any:
        """A column of numbers as a numpy view of the file."""
        return self.batch.column(name).to_numpy(zero_copy_only=True)


def _is_long(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind) or pa.types.is_large_list(kind))


def _array(value: Any, kind: pa.DataType) -> Any:
    array = value if isinstance(value, pa.Array) else pa.array(value, kind)
    if array.type != kind:
        raise ValueError(f"a column of {array.type} instead of {kind}")
    return array
