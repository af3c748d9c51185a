"""Starting the ranks of a job on this host, as forks of a :mod:`hocket.comms.nursery`.

One call of :meth:`Ranks.run_attempt` starts one *attempt*: all ranks, once. What ended it comes back as
data, so that the job decides what a failure means; nothing is restarted here.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from hocket.core import clock

_STORE_LIMIT = timedelta(minutes=5)
_LAST_WORDS_SECONDS = 10.0


@dataclass(frozen=True)
class WorkerExit:
    """How one rank ended: an exit status, or the number of a signal."""

    rank: int
    pid: int
    exit_code: int
    """Negative: minus the number of the signal that ended it."""
    log: Path

    def describe(self) -> str:
        """For people: ``rank 2 (pid 4711) was ended by SIGKILL``."""
        who = f"rank {self.rank} (pid {self.pid})"
        if self.exit_code < 0:
            return f"{who} was ended by {signal.Signals(-self.exit_code).name}"
        return f"{who} left with status {self.exit_code}"


@dataclass(frozen=True)
class AttemptEnd:
    """How an attempt ended."""

    failed: list[WorkerExit]
    """Ranks that did not leave with 0, the first to end first."""
    teardown_seconds: float
    """From the first failure to the end of the last rank."""


class Ranks(AbstractContextManager["Ranks"]):
    """Ranks that run the function ``main`` of ``module``, forked from a :mod:`hocket.comms.nursery`.

    ``environment`` holds what libraries must find when they are imported. On leaving the ``with`` block,
    and when this process dies, no rank is left.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._module, self._environment = module, dict(environment)
        self._nursery: Nursery | None = None

    def run_attempt(
        self, arguments: Sequence[str], *, workers: int, log_dir: Path, grace_seconds: float = 10.0
    ) -> AttemptEnd:
        """Start ``workers`` ranks with ``arguments`` on their command line and wait for all.

        Standard output and error of rank K go to ``rank-K.out`` and ``rank-K.err`` in ``log_dir``. Ranks
        left over after a failure get SIGTERM and, ``grace_seconds`` later, SIGKILL.
        """
        from torch.distributed import TCPStore  # type: ignore[attr-defined]

        log_dir.mkdir(parents=True, exist_ok=True)
        if self._nursery is None:
            self._nursery = Nursery(self._module, self._environment)
        store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=_STORE_LIMIT)
        place = {
            "WORLD_SIZE": str(workers),
            "LOCAL_WORLD_SIZE": str(workers),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(store.port),
            # The store is here already: rank 0 must not open one.
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            "TORCHELASTIC_RESTART_COUNT": "0",
        }
        requests = [
            {
                "arguments": list(arguments),
                "environment": {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                "stdout": str(log_dir.absolute() / f"rank-{rank}.out"),
                "stderr": str(log_dir.absolute() / f"rank-{rank}.err"),
            }
            for rank in range(workers)
        ]
        try:
            exits, teardown = _wait(self._nursery, self._nursery.start(requests), grace_seconds)
        except NurseryLost:
            status = self._nursery.ended()
            self._nursery, teardown = None, 0.0
            if status >= 0:
                raise RuntimeError(
                    f"{self._module} could not be imported: the process left with {status}"
                ) from None
            exits = [(rank, 0, -signal.SIGKILL) for rank in range(workers)]
        failed = [
            WorkerExit(rank, pid, code, log_dir / f"rank-{rank}.err") for rank, pid, code in exits if code
        ]
        return AttemptEnd(failed, teardown)

    def run_apart(
        self, arguments: Sequence[Sequence[str]], *, log_dir: Path, poll: Callable[[], None], seconds: float
    ) -> list[WorkerExit]:
        """Start a worker for each list of arguments, none of which knows of the others, and wait for all.

        ``poll`` is called every ``seconds`` meanwhile. Who did not leave with 0, the first to end first.
        """
        log_dir.mkdir(parents=True, exist_ok=True)
        if self._nursery is None:
            self._nursery = Nursery(self._module, self._environment)
        logs = [log_dir.absolute() / f"worker-{number}.err" for number in range(len(arguments))]
        requests = [
            {"arguments": list(own), "environment": {}, "stdout": str(log), "stderr": str(log)}
            for own, log in zip(arguments, logs, strict=True)
        ]
        failed: list[WorkerExit] = []
        try:
            workers = self._nursery.start(requests)
            while workers:
                told = self._nursery.next_end(seconds)
                poll()
                if told is not None:
                    number = workers.pop(told[0])
                    if told[1]:
                        failed.append(WorkerExit(number, *told, logs[number]))
        except NurseryLost:
            status, self._nursery = self._nursery.ended(), None
            failed.append(WorkerExit(0, 0, status or 1, logs[0]))
        return failed

    def __exit__(self, *_: object) -> None:
        if self._nursery is not None:
            self._nursery.close()
            self._nursery = None


def _wait(
    nursery: Nursery, ranks: dict[int, int], grace_seconds: float
) -> tuple[list[tuple[int, int, int]], float]:
    """(rank, pid, exit code) in the order of their ends, and the seconds since the first failure."""
    ended: list[tuple[int, int, int]] = []
    failed_at: float | None = None
    killed = False
    while ranks:
        left = None
        if failed_at is not None and not killed:
            left = max(0.0, failed_at + grace_seconds - clock.monotonic())
        told = nursery.next_end(left)
        if told is None:
            killed = True
            nursery.send(ranks, signal.SIGKILL)
            continue
        pid, code = told
        ended.append((ranks.pop(pid), pid, code))
        if code and failed_at is None:
            failed_at = clock.monotonic()
            nursery.send(ranks, signal.SIGTERM)
    return ended, 0.0 if failed_at is None else clock.monotonic() - failed_at


class NurseryLost(Exception):
    """The process that forks workers has ended, and they with it."""


class Nursery:
    """The launcher's end of a nursery."""

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        answers, write = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hocket.comms.nursery", module, str(write)],
            stdin=subprocess.PIPE,
            pass_fds=[write],
            env={**os.environ, **environment},
        )
        os.close(write)
        self._answers = answers
        self._unread = b""
        self._lines: list[dict[str, Any]] = []

    def start(self, requests: Sequence[Mapping[str, Any]]) -> dict[int, int]:
        """Fork a worker for each request, one after the other; the position of each by its pid."""
        ranks: dict[int, int] = {}
        ends: list[dict[str, Any]] = []
        for rank, request in enumerate(requests):
            try:
                assert self._process.stdin is not None
                self._process.stdin.write((json.dumps(request) + "\n").encode())
                self._process.stdin.flush()
            except BrokenPipeError:
                raise NurseryLost from None
            while (told := self._next(None)) is not None and "exit_code" in told:
                ends.append(told)
            assert told is not None
            ranks[told["pid"]] = rank
        self._lines[:0] = ends
        return ranks

    def next_end(self, seconds: float | None) -> tuple[int, int] | None:
        """Pid and exit code of the next worker that ends; None when none does within ``seconds``."""
        told = self._next(seconds)
        return None if told is None else (told["pid"], told["exit_code"])

    def send(self, pids: Iterable[int], number: signal.Signals) -> None:
        """Send a signal to workers; those that have just ended are left out."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def ended(self) -> int:
        """The exit code of a nursery that has closed its end of the pipe."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_LAST_WORDS_SECONDS)
        self.close()
        return self._process.returncode

    def close(self) -> None:
        """End the nursery, and with it whatever still runs."""
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        os.close(self._answers)

    def _next(self, seconds: float | None) -> dict[str, Any] | None:
        while not self._lines:
            with selectors.DefaultSelector() as selector:
                selector.register(self._answers, selectors.EVENT_READ)
                if not selector.select(seconds):
                    return None
            read = os.read(self._answers, 65536)
            if not read:
                raise NurseryLost
            *lines, self._unread = (self._unread + read).split(b"\n")
            self._lines += [json.loads(line) for line in lines]
        return self._lines.pop(0)
