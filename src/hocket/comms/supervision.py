"""Processes that end when they should: with their parent, alone in their folder, on a signal."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import platform
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import FrameType

from hocket.core.errors import RunError

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_prctl = ctypes.CDLL(None, use_errno=True).prctl if platform.system() == "Linux" else None
"""Looked up once: between fork and exec a library must not be."""


def die_with_parent(parent: int | None = None) -> None:
    """End this process (SIGKILL) as soon as its parent has ended, however the parent ended.

    A process that was forked names its parent, which may be gone already. Linux does it
    by itself (prctl(2), PR_SET_PDEATHSIG); elsewhere a thread looks once a second.
    """
    parent = os.getppid() if parent is None else parent
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended between the two calls
            os.kill(os.getpid(), signal.SIGKILL)
        return

    def watch() -> None:
        pause = threading.Event()
        while os.getppid() == parent:
            pause.wait(1.0)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def outlive_parent() -> None:
    """Take back :func:`die_with_parent` where the system does it: a line tells of the parent's end.

    For a process that has something to say about it before it ends.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, 0)


def name_process(name: str) -> None:
    """What ``ps`` and ``top`` call this process, where the system can (Linux: 15 characters of it)."""
    if _prctl is not None:
        _prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def is_running(pid: int) -> bool:
    """True while a process of this host has not ended; one that has, and that nobody has waited for, has."""
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    with suppress(OSError):  # not Linux, or gone since
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return not Path("/proc/self/stat").exists()


class FolderLock(AbstractContextManager["FolderLock"]):
    """One process at a time in a folder, by flock(2) on ``NAME.lock``: gone when its holder is gone."""

    def __init__(self, folder: Path, name: str = "run") -> None:
        self._path = folder / f"{name}.lock"

    def __enter__(self) -> FolderLock:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RunError(
                f"{self._path.parent}: in use by another process ({holder})",
                "Wait for it, stop it, or choose another folder.",
            ) from None
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))
        self._file.flush()
        return self

    def __exit__(self, *_: object) -> None:
        self._file.truncate(0)
        self._file.close()


def on_signals(numbers: list[signal.Signals], action: Callable[[signal.Signals], None]) -> None:
    """Call ``action`` when one of the signals arrives (main thread only)."""

    def handler(number: int, _frame: FrameType | None) -> None:
        action(signal.Signals(number))

    for number in numbers:
        signal.signal(number, handler)


@contextmanager
def while_signals(numbers: list[signal.Signals], action: Callable[[signal.Signals], None]) -> Iterator[None]:
    """:func:`on_signals` within a ``with`` block; after it the signals do what they did before.

    In another thread than the main one, which alone may say what signals do, they are left alone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    on_signals(numbers, action)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: a handler that was not set from Python, which cannot be put back from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
