"""One worker process, seen from the coordinator."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from typing import Any, Protocol

from hocket.core import clock
from hocket.hardware import libraries
from hocket.recognition.messages import Start

_TAIL = 4000
"""Bytes of a lost worker's last words that are kept."""


KEY = "HOCKET_WORKER_KEY"
"""Name of the variable that tells a worker on another node the key of its line."""


class Worker(Protocol):
    """A worker as the coordinator sees it, wherever it runs."""

    slot: int
    pid: int
    """0 where it runs on another machine."""
    started: float
    line: Connection[Any, Any]

    def send(self, message: object) -> None:
        """Send a message; to a worker that is gone it is lost, which the line's end will tell."""

    def dump_stack(self) -> None:
        """Have it write the stacks of its threads, where that can be."""

    def end(self, patience: float = 0.0) -> None:
        """Close the line, which ends a healthy worker, and kill it after ``patience`` seconds."""

    def describe(self) -> str:
        """How it ended."""
        ...

    def last_words(self) -> str:
        """The end of what it wrote to standard output and error."""
        ...

    def forget(self) -> None:
        """Let go of what is kept of it."""


class WorkerProcess:
    """A fresh interpreter that runs :mod:`hocket.recognition.worker`, and the line to it.

    Both ends of the line are held by exactly one process each, so the end of either process is seen
    by the other at once. The worker's standard output and error go to a temporary file.
    """

    def __init__(self, start: Start) -> None:
        ours, theirs = socket.socketpair()
        self.slot = start.slot
        self.started = clock.monotonic()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in end()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hocket.recognition.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                env=environment(start.threads),
            )
        self.line: Connection[Any, Any] = Connection(ours.detach())
        self.pid = self._process.pid
        self.send(start)

    def send(self, message: object) -> None:
        """Send a message; to a process that is gone it is lost, which the line's end will tell."""
        try:
            self.line.send(message)
        except OSError:
            return

    def dump_stack(self) -> None:
        """Ask for the stacks of all its threads in its log, and give it half a second for that."""
        self._process.send_signal(signal.SIGUSR1)
        try:
            self._process.wait(0.5)
        except subprocess.TimeoutExpired:
            return

    def end(self, patience: float = 0.0) -> None:
        """Close the line, which ends a healthy worker, and kill it after ``patience`` seconds."""
        self.line.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def describe(self) -> str:
        """How it ended: ``worker 1 (pid 4711) was ended by SIGKILL``."""
        status = self._process.returncode
        who = f"worker {self.slot} (pid {self.pid})"
        if status is None:
            return f"{who} is running"
        if status < 0:
            return f"{who} was ended by {signal.Signals(-status).name}"
        return f"{who} left with status {status}"

    def last_words(self) -> str:
        """The end of what it wrote to standard output and error."""
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - _TAIL))
        return self._log.read().decode(errors="replace").strip()

    def forget(self) -> None:
        """Close the log."""
        self._log.close()


def environment(threads: int) -> dict[str, str]:
    """Ours, with the module path and what a worker's libraries are told.

    A job goes from the longest utterances to the shortest: shapes that are past do not come again, and
    kernels for them would only fill the memory.
    """
    path = os.pathsep.join(folder for folder in sys.path if folder)
    return {**os.environ, "PYTHONPATH": path, **libraries.environment(threads, sparing=True)}
