"""One checkpoint on disk: written by all ranks, checked by hashes, read on any number of ranks.

A checkpoint is a folder ``step-00000120`` with torch.distributed.checkpoint's files (tensors only),
``progress.json`` and ``checksums.json``. It is written under another name and renamed when all of it
is on disk, so that a folder of that name is whole.
"""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem, WriteItemType
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from hocket.core import files
from hocket.core.errors import CheckpointError
from hocket.core.held import Part, Place

Tensors = dict[str, torch.Tensor]
Parts = Mapping[str, torch.Tensor | Part]
"""What a rank writes: tensors, whole or the parts of them that it holds."""
_PREFIX = "step-"
_CHECKSUMS = "checksums.json"
_PROGRESS = "progress.json"
_READ_AT_ONCE = 1 << 25
"""Values that are read into memory together."""
_GO_ON = "Remove this checkpoint's folder, and --resume goes on from the one before."


def folder_for(root: Path, step: int) -> Path:
    """Folder of the checkpoint taken before optimiser step ``step``."""
    return root / f"{_PREFIX}{step:08d}"


def whole_checkpoints(root: Path) -> list[Path]:
    """Folders of all finished checkpoints, the earliest first."""
    return sorted(path for path in root.glob(f"{_PREFIX}*") if path.is_dir())


def step_of(folder: Path) -> int:
    """The optimiser step that comes after this checkpoint."""
    return int(folder.name.removeprefix(_PREFIX))


def write_tensors(folder: Path, tensors: Parts, group: dist.ProcessGroup | None) -> None:
    """Write ``tensors`` into ``folder``, each rank its part; every rank of ``group`` must call.

    What several ranks hold alike is written once. All ranks' parts of a tensor must make it whole.

    ``group`` None: one process writes all.
    """
    writer = FileSystemWriter(folder, thread_count=1, sync_files=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # it is meant to be
        save(
            dict(tensors),
            storage_writer=writer,
            planner=_Planner(),
            process_group=group,
            no_dist=group is None,
        )


def seal(temporary: Path, final: Path, progress: dict[str, Any]) -> None:
    """Add progress and checksums to a written folder and give it its final name."""
    files.write_json(temporary / _PROGRESS, progress)
    sums = {path.name: files.sha256(path) for path in sorted(temporary.iterdir()) if path.is_file()}
    files.write_json(temporary / _CHECKSUMS, sums)
    if final.exists():  # the same step again, after a restart from an earlier point
        remove(final)
    temporary.replace(final)
    files.fsync_dir(final.parent)


def remove(folder: Path) -> None:
    """Delete a checkpoint. Who is killed meanwhile leaves the whole of it, or nothing with its name."""
    gone = folder.with_name(f".{folder.name}.gone.tmp")
    shutil.rmtree(gone, ignore_errors=True)
    folder.replace(gone)
    shutil.rmtree(gone, ignore_errors=True)


def verify(folder: Path) -> None:
    """Raise :class:`CheckpointError` naming the file when the folder is torn or altered."""
    try:
        sums = json.loads((folder / _CHECKSUMS).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: {_CHECKSUMS} cannot be read: {error}") from error
    for name, expected in sums.items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{path}: missing from the checkpoint", _GO_ON)
        if files.sha256(path) != expected:
            raise CheckpointError(f"{path}: altered or damaged (its SHA-256 differs)", _GO_ON)


def read_progress(folder: Path) -> dict[str, Any]:
    """What the checkpoint says of itself: step, fingerprint, counts."""
    try:
        progress: dict[str, Any] = json.loads((folder / _PROGRESS).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder / _PROGRESS}: cannot be read: {error}") from error
    return progress


class StoredTensors(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint by name; each is read when it is asked for, by this rank alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        entries = _Reader(folder).read_metadata().state_dict_metadata
        self._entries = {n: entry for n, entry in entries.items() if isinstance(entry, TensorStorageMetadata)}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, without reading them."""
        return {name: tuple(entry.size) for name, entry in self._entries.items()}

    def each(self, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Several tensors one after the other, of which only some are in memory at a time."""
        batch: list[str] = []
        size = 0
        for name in names:
            batch.append(name)
            size += self._entries[name].size.numel() if self._entries[name].size else 1
            if size >= _READ_AT_ONCE:
                yield from self.read(batch).items()
                batch, size = [], 0
        if batch:
            yield from self.read(batch).items()

    def read(self, names: Iterable[str]) -> Tensors:
        """Several tensors at once."""
        into = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name in names
            if (entry := self._entries[name])
        }
        load(into, storage_reader=_Reader(self._folder), no_dist=True)
        return into

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.read([name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Planner(DefaultSavePlanner):
    """Plans what a rank writes: each box of what it holds, and of what others hold too, its share."""

    def __init__(self) -> None:
        super().__init__(flatten_state_dict=False)

    def create_local_plan(self) -> SavePlan:
        self._pieces: dict[MetadataIndex, torch.Tensor] = {}
        items = []
        for name, value in self.state_dict.items():
            part = value if isinstance(value, Part) else Part(value, Place.whole(value))
            for box, piece in part.place.pieces(part.tensor):
                index = MetadataIndex(name, torch.Size(box.offsets))
                self._pieces[index] = piece
                told = TensorWriteData(
                    ChunkStorageMetadata(torch.Size(box.offsets), torch.Size(box.sizes)),
                    TensorProperties.create_from_tensor(piece),
                    torch.Size(part.place.shape),
                )
                items.append(WriteItem(index, WriteItemType.SHARD, tensor_data=told))
        self.plan = SavePlan(items)
        return self.plan

    def resolve_data(self, write_item: WriteItem) -> torch.Tensor:
        return self._pieces[write_item.index].detach().contiguous()


class _Reader(FileSystemReader):
    """Reads the metadata without letting it name anything but what metadata consists of."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        path = self._get_metadata_path(kwargs.get("rank"))
        try:
            with self.fs.create_stream(path, "rb") as stream:
                found: Metadata = _MetadataUnpickler(stream).load()
        except (OSError, pickle.UnpicklingError, EOFError) as error:
            raise CheckpointError(f"{path}: not a checkpoint's metadata: {error}") from error
        if found.storage_meta is None:
            found.storage_meta = StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


class _MetadataUnpickler(pickle.Unpickler):
    """torch stores metadata as a pickle; only its own record types and dtypes may be built."""

    _NAMES = (("torch", "Size"), ("torch.serialization", "_get_layout"), ("pathlib", "PosixPath"))

    def find_class(self, module: str, name: str) -> Any:
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if dtype or (module, name) in self._NAMES or (module, name) in _RECORDS:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} has no place in it")


_RECORDS = {
    (module.__name__, name)
    for module in (metadata, filesystem)
    for name, value in vars(module).items()
    if isinstance(value, type) and value.__module__ == module.__name__
}
