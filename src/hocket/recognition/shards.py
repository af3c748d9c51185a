"""Tar files full of recordings, read in place: nothing is unpacked.

A shard is what WebDataset and lhotse's Shar write: members of one name and different endings belong
together, ``a/1.flac`` and ``a/1.txt`` (the reference) or ``a/1.json`` (with ``text`` and ``speaker``).
Only uncompressed tars: a member of a compressed one cannot be read without all that is before it.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from hocket.core.errors import UsageError
from hocket.recognition.items import Item

SUFFIX = ".tar"
_LABELS = 1 << 20
"""Bytes of a text or JSON member at most: more is no label."""


def read(path: Path, suffixes: tuple[str, ...]) -> Iterator[Item]:
    """The recordings of a tar file, in its order; ids are ``PATH/MEMBER``.

    Raises :class:`UsageError` when the file is no tar or ends too soon.
    """
    waiting: Item | None = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if not member.isfile():
                    continue
                name = PurePosixPath(member.name)
                if waiting is not None and not _together(waiting, path, name):
                    yield waiting
                    waiting = None
                if name.suffix.lower() in suffixes:
                    if waiting is not None:  # another recording of the same name
                        yield waiting
                    waiting = Item(id=f"{path}/{name}", audio=path, member=(member.offset_data, member.size))
                elif waiting is not None and member.size <= _LABELS:
                    waiting = _labelled(waiting, tar, member)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UsageError(
            f"{path}: cannot read the tar file: {error}", "Compressed tars are not read: unpack them once."
        ) from error
    if waiting is not None:
        yield waiting


def _together(item: Item, path: Path, name: PurePosixPath) -> bool:
    return item.id.rpartition(".")[0] == str(f"{path}/{name.with_suffix('')}")


def _labelled(item: Item, tar: tarfile.TarFile, member: tarfile.TarInfo) -> Item:
    suffix = PurePosixPath(member.name).suffix.lower()
    if suffix not in (".txt", ".json"):
        return item
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    try:
        if suffix == ".txt":
            return replace(item, ref=data.decode().strip())
        fields = json.loads(data)
    except ValueError as error:
        return replace(item, problem=f"{item.audio}: {member.name}: not a label: {error}")
    if not isinstance(fields, dict):
        return item
    text, speaker = fields.get("text"), fields.get("speaker")
    return replace(
        item,
        ref=text if isinstance(text, str) else item.ref,
        speaker=speaker if isinstance(speaker, str) else item.speaker,
    )
