"""Where a run's supervisor listens, in a file of the run's folder that only its owner may read.

Whoever sees the folder, on this host or through a shared file system, can find and prove itself to the
supervisor; nobody else can.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from hocket.comms.wire import Address, Line, connect
from hocket.core import clock
from hocket.core.errors import RunError, WorkerLost

NAME = "supervisor.json"
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Rendezvous:
    """How to reach the supervisor of a run."""

    host: str
    port: int
    secret: str
    max_payload: int
    """Bytes of tensors that no message of this run exceeds."""

    @property
    def address(self) -> Address:
        """Host and port."""
        return self.host, self.port

    def write(self, folder: Path) -> None:
        """Leave it in ``folder``, readable for the owner only."""
        path = folder / NAME
        temporary = path.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(asdict(self), file)
        temporary.replace(path)

    @classmethod
    def read(cls, folder: Path) -> Rendezvous:
        """What the supervisor left. Raises :class:`RunError` when there is none."""
        try:
            return cls(**json.loads((folder / NAME).read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{folder / NAME}: no supervisor to be found: {error}") from error

    @classmethod
    def find(
        cls, folder: Path, name: str, seconds: float, look: Callable[[], None] = lambda: None
    ) -> tuple[Rendezvous, Line]:
        """Wait until a supervisor is there, and join it: one that has just been started, or will be.

        Raises what the last try raised, or ``look``, which is called after each.
        """
        deadline = clock.monotonic() + seconds
        while True:
            try:
                found = cls.read(folder)
                return found, found.join(name)
            except (RunError, WorkerLost):
                if clock.monotonic() > deadline:
                    raise
                look()
                time.sleep(_POLL_SECONDS)

    def join(self, name: str) -> Line:
        """A line to the supervisor, under the name that it will call this process by."""
        return connect(self.address, self.secret, name, max_payload=self.max_payload)
