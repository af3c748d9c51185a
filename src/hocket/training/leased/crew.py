"""Processes that the supervisor starts, and the lines on which they speak to it."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hocket.comms.pulse import Pulse
from hocket.comms.ranks import Nursery, NurseryLost
from hocket.comms.rendezvous import Rendezvous
from hocket.comms.wire import LOOPBACK, Line, Listener, Message, new_secret
from hocket.core import clock
from hocket.core.errors import RunError, WorkerLost
from hocket.hardware import libraries

_MEMBER = "hocket.training.leased.member"


class Crew:
    """Workers and shards of this host, forked from one process that has imported what both need."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._nursery: Nursery | None = None
        self._codes: dict[int, int | None] = {}
        """Exit codes of all that were started; None while they run."""

    def begin(self) -> None:
        """Start importing, beside what the caller does meanwhile."""
        if self._nursery is None:
            self._nursery = Nursery(_MEMBER, libraries.environment(self._threads))

    def start(self, who: str, role: str, arguments: Sequence[str], log: Path) -> Process:
        """Fork one; its output goes to a file under ``log``."""
        self.begin()
        assert self._nursery is not None
        log.mkdir(parents=True, exist_ok=True)
        output = str(log.absolute() / "stderr.log")
        request = {"arguments": [role, *arguments], "environment": {}, "stdout": output, "stderr": output}
        try:
            (pid,) = self._nursery.start([request])
        except NurseryLost:
            self._lose_all()
            raise RunError(f"{_MEMBER}: the process that forks {who} has ended") from None
        self._codes[pid] = None
        return Process(self, who, pid, Path(output))

    def code(self, pid: int, seconds: float | None = 0.0) -> int | None:
        """The exit code of one, waiting for it at most so long (None: for ever); None while it runs."""
        deadline = None if seconds is None else clock.monotonic() + seconds
        while self._codes[pid] is None and self._nursery is not None:
            left = None if deadline is None else max(0.0, deadline - clock.monotonic())
            try:
                told = self._nursery.next_end(left)
            except NurseryLost:
                self._lose_all()
                break
            if told is None:
                break
            self._codes[told[0]] = told[1]
        return self._codes[pid]

    def close(self) -> None:
        """End whatever still runs."""
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None

    def _lose_all(self) -> None:
        """Whoever forked them is gone, and nobody would tell of their ends: end them now."""
        for pid in [pid for pid, code in self._codes.items() if code is None]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._codes[pid] = -signal.SIGKILL
        self.close()


class Process:
    """One of the crew."""

    def __init__(self, crew: Crew, who: str, pid: int, log: Path) -> None:
        self._crew, self.who, self.pid, self.log = crew, who, pid, log

    @property
    def ended(self) -> bool:
        """True when the process is no more."""
        return self._crew.code(self.pid) is not None

    def end(self, patience: float = 0.0) -> None:
        """Wait ``patience`` seconds for its own end, then kill it."""
        if self._crew.code(self.pid, patience) is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._crew.code(self.pid, None)

    def describe(self, otherwise: str) -> str:
        """How it ended: ``worker 2 (pid 4711) was ended by SIGKILL``; or ``otherwise`` while it runs."""
        status = self._crew.code(self.pid)
        who = f"{self.who} (pid {self.pid})"
        if status is None:
            return f"{who} {otherwise}"
        if status < 0:
            return f"{who} was ended by {signal.Signals(-status).name}"
        return f"{who} left with status {status}"

    def last_words(self, lines: int = 15) -> str:
        """The end of its log; one that ended as soon as it was forked has none."""
        if not self.log.is_file():
            return ""
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
