"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hocket.core.errors import UsageError


def fsync_dir(folder: Path) -> None:
    """Make a rename inside ``folder`` durable."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``path`` whole or leave it as it was: a temporary neighbour, fsync, rename."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write ``path`` bit by bit, whole or not at all: the file takes its name when the block has ended."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_dir(path.parent)


def write_text(path: Path, text: str) -> None:
    """:func:`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """:func:`write_bytes` for one JSON value, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_versioned(path: Path, what: str, version: int, again: str) -> dict[str, Any]:
    """A JSON object that :func:`write_json` wrote with a ``version``.

    Raises :class:`UsageError` for a file that cannot be read, is something else than ``what``, or is of
    another version; ``again`` says how to have it written anew.
    """
    try:
        given: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read {what}: {error.strerror}", again) from error
    except ValueError as error:
        raise UsageError(f"{path}: not {what}: not JSON ({error})", again) from error
    if not isinstance(given, dict) or "version" not in given:
        raise UsageError(f"{path}: not {what}: the field 'version' is missing", again)
    if given["version"] != version:
        raise UsageError(
            f"{path}: {what} of version {given['version']!r}; this hocket reads {version}", again
        )
    return given


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
