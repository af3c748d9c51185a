"""Workers of a job on a Ray cluster: the same worker processes, started by Ray's actors on its nodes.

An actor holds a node's CPUs or GPU and runs one worker there, which calls the coordinator back over TCP
(authenticated by a key of the job). Journal, queue and replacement of lost workers are the
coordinator's, as with processes of one machine: a lost actor, node or line is a line that ends.

Model and audio must be found under the same paths on every node, and hocket installed there.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, Listener
from typing import Any

from hocket.core import clock
from hocket.core.errors import UsageError
from hocket.recognition.messages import Start
from hocket.recognition.process import KEY, environment

_TAIL = 4000
_TELLING = 2.0
"""Seconds that an actor which was killed has to say how its worker ended."""


class Host:
    """The actor: runs one worker as a child that dies with it, and says how it ended."""

    def run(self, address: str, key: str, threads: int) -> str:
        """Serve the coordinator at ``HOST:PORT`` until the line ends."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hocket.recognition.worker", address],
            env={**environment(threads), KEY: key},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        status = done.returncode
        how = f"was ended by signal {-status}" if status < 0 else f"left with status {status}"
        return f"{how}\n{done.stdout[-_TAIL:].decode(errors='replace')}".strip()


class RayWorker:
    """One worker on the cluster: a :class:`~hocket.recognition.process.Worker`."""

    pid = 0

    def __init__(self, ray: Any, start: Start, gpus: int) -> None:
        self._ray = ray
        self.slot, self.started = start.slot, clock.monotonic()
        key = secrets.token_hex(16)
        host = ray.util.get_node_ip_address()
        self._listener = Listener((host, 0), authkey=key.encode())
        self.line, self._inner = Pipe()
        self._how = "was ended with its actor or node"
        self._words = ""
        resources = {"num_gpus": 1, "num_cpus": 1} if gpus else {"num_cpus": start.threads}
        self._actor = ray.remote(Host).options(max_restarts=0, **resources).remote()
        address = f"{host}:{self._listener.address[1]}"
        self._running = self._actor.run.remote(address, key, start.threads)
        threading.Thread(target=self._carry, name=f"ray-{start.slot}", daemon=True).start()
        self._end = threading.Thread(target=self._await_end, name=f"ray-{start.slot}-end", daemon=True)
        self._end.start()
        self.send(start)

    def send(self, message: object) -> None:
        """Send a message; to a worker that is gone it is lost, which the line's end will tell."""
        with suppress(OSError):
            self.line.send(message)

    def dump_stack(self) -> None:
        """Stacks of a worker on another node are not asked for."""

    def end(self, patience: float = 0.0) -> None:
        """Close the line, which ends a healthy worker, and kill its actor after ``patience`` seconds."""
        self.line.close()
        self._ray.wait([self._running], timeout=max(patience, 0.1))
        self._ray.kill(self._actor)
        self._end.join(_TELLING)
        self._listener.close()

    def describe(self) -> str:
        """How it ended."""
        return f"worker {self.slot} (on Ray) {self._how}"

    def last_words(self) -> str:
        """The end of what it wrote to standard output and error, where its actor could still tell."""
        return self._words

    def forget(self) -> None:
        """Nothing is kept."""

    def _carry(self) -> None:
        """Carry messages between the coordinator's end of the line and the worker's."""
        try:
            far = self._listener.accept()
        except (OSError, EOFError):
            self._inner.close()
            return
        threading.Thread(target=_pump, args=(far, self._inner), daemon=True).start()
        _pump(self._inner, far)

    def _await_end(self) -> None:
        try:
            self._how, _, self._words = self._ray.get(self._running).partition("\n")
        except self._ray.exceptions.RayError as error:
            self._words = str(error)[-_TAIL:]
        self._listener.close()
        _shut(self._inner)


def _pump(source: Connection[Any, Any], sink: Connection[Any, Any]) -> None:
    """Carry messages one way until an end is shut; then shut both, and close ``source``."""
    try:
        while True:
            sink.send_bytes(source.recv_bytes())
    except (OSError, EOFError):
        _shut(sink)
        _shut(source)
        source.close()


def _shut(end: Connection[Any, Any]) -> None:
    """End a line for its other side and for our thread that waits for it: closing would wake neither."""
    with suppress(OSError), socket.socket(fileno=os.dup(end.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def cluster() -> Iterator[tuple[Callable[[Start], RayWorker], int, int]]:
    """Join the cluster that ``RAY_ADDRESS`` names, or start one on this machine; leave it at the end.

    Gives what starts a worker, and the cluster's numbers of CPUs and GPUs. Raises :class:`UsageError`
    where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise UsageError("--engine ray: Ray is not installed", "pip install 'hocket[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    joined = not ray.is_initialized()
    if joined:
        ray.init(log_to_driver=False, logging_level="error")
    try:
        resources = ray.cluster_resources()
        cpus, gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        yield lambda start: RayWorker(ray, start, gpus if start.device != "cpu" else 0), cpus, gpus
    finally:
        if joined:
            ray.shutdown()
