"""A folder that is whole or not there, made by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hocket.core import files
from hocket.core.errors import CorpusError


@contextmanager
def whole_folder(out: Path, marker: str) -> Iterator[Path]:
    """A folder to write into, beside ``out``; on leaving without an error it becomes ``out``.

    An earlier ``out`` is replaced when it is empty or holds ``marker``, the file by which a whole one
    is known; anything else there is left alone. After an error, or a process that was killed, ``out``
    is as it was before. Raises :class:`CorpusError` when ``out`` is something else, or when another
    process is writing it.
    """
    if out.exists() and not (out / marker).is_file() and not (out.is_dir() and not any(out.iterdir())):
        raise CorpusError(f"{out}: it is there already, and is no prepared corpus", "Name another folder.")
    out.parent.mkdir(parents=True, exist_ok=True)
    working = out.with_name(f".{out.name}.unfinished")
    lock = _take(working, out)
    try:
        yield working
        _fsync_tree(working)
        old = out.with_name(f".{out.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        if out.exists():
            out.rename(old)
        working.rename(out)
        files.fsync_dir(out.parent)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(working, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _take(working: Path, out: Path) -> int:
    """Make the folder anew and lock it; a lock ends with its process, so a dead one's is free."""
    while True:
        working.mkdir(exist_ok=True)
        lock = os.open(working, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise CorpusError(
                f"{out}: another process is preparing it", "Wait for it, or name another folder."
            ) from None
        if working.exists() and os.path.samestat(os.fstat(lock), working.stat()):
            break
        # What was locked has been renamed by the process that had it until now.
        os.close(lock)
    for left in working.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    return lock


def _fsync_tree(folder: Path) -> None:
    """Make the files at the top and one level down durable, and the folders themselves."""
    for path in [folder, *folder.iterdir()]:
        if path.is_dir():
            for inner in path.iterdir():
                if inner.is_file():
                    _fsync(inner)
        else:
            _fsync(path)
        if path.is_dir():
            files.fsync_dir(path)


def _fsync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
