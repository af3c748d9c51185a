"""Processes that the supervisor starts, and the lines on which they speak to it."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hocket.comms.pulse import Pulse
from hocket.comms.rendezvous import Rendezvous
from hocket.comms.wire import LOOPBACK, Line, Listener, Message, new_secret
from hocket.core.errors import WorkerLost


class Process:
    """A fresh interpreter that runs a module; its output goes to a file under ``log``."""

    def __init__(self, who: str, module: str, arguments: Sequence[str], log: Path, threads: int) -> None:
        log.mkdir(parents=True, exist_ok=True)
        self.who, self.log = who, log / "stderr.log"
        count = str(threads)
        paths = os.pathsep.join(folder for folder in sys.path if folder)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count},
            )
        self.pid = self._process.pid

    @property
    def ended(self) -> bool:
        """True when the process is no more."""
        return self._process.poll() is not None

    def end(self, patience: float = 0.0) -> None:
        """Wait ``patience`` seconds for its own end, then kill it."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def describe(self, otherwise: str) -> str:
        """How it ended: ``worker 2 (pid 4711) was ended by SIGKILL``; or ``otherwise`` while it runs."""
        status = self._process.poll()
        who = f"{self.who} (pid {self.pid})"
        if status is None:
            return f"{who} {otherwise}"
        if status < 0:
            return f"{who} was ended by {signal.Signals(-status).name}"
        return f"{who} left with status {status}"

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Elsewhere:
    """A process that somebody else started, and ends: seen by its line alone."""

    pid: int | None = None
    ended = False
    log = Path("the output of that process")

    def __init__(self, who: str) -> None:
        self.who = who

    def end(self, patience: float = 0.0) -> None:
        """It ends by itself when its line does."""

    def describe(self, otherwise: str) -> str:
        """What is known of it."""
        return f"{self.who} {otherwise}"

    def last_words(self, lines: int = 15) -> str:
        """Not known here."""
        return ""


@dataclass(frozen=True)
class Heard:
    """Something that came in on a line: a message, or the end of the line and why."""

    line: Line
    message: Message | None = None
    lost: str = ""


class Switchboard:
    """All lines of the supervisor: who joins is read by a thread of its own into one queue."""

    def __init__(self, folder: Path, *, max_payload: int, patience: float, host: str = LOOPBACK) -> None:
        self._patience = patience
        self._heard: queue.Queue[Heard] = queue.Queue()
        self._pulse = Pulse()
        secret = new_secret()
        name = f"the supervisor (pid {os.getpid()} on {os.uname().nodename})"
        self._listener = Listener(secret, name, self._read, host=host, max_payload=max_payload)
        address, port = self._listener.address
        self._folder = folder
        Rendezvous(address, port, secret, max_payload).write(folder)

    def next(self, seconds: float) -> Heard | None:
        """What came in next; None when nothing did for that long."""
        try:
            return self._heard.get(timeout=seconds)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Take no more calls, and take down the address."""
        self._listener.close()
        self._pulse.close()
        (self._folder / "supervisor.json").unlink(missing_ok=True)

    def _read(self, line: Line) -> None:
        line.set_patience(self._patience, sending=self._patience)
        self._pulse.add(line)
        try:
            while True:
                self._heard.put(Heard(line, line.receive()))
        except WorkerLost as error:
            self._heard.put(Heard(line, lost=str(error)))


def silence(lines: Sequence[Line]) -> None:
    """Close lines in the background: a peer that does not read must not hold anybody up."""
    for line in lines:
        threading.Thread(target=line.close, daemon=True).start()
