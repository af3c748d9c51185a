"""Signs of life on lines that both sides always read: silence then means that something is wrong."""

from __future__ import annotations

import threading

from hocket.comms.wire import Line
from hocket.core.errors import WorkerLost

INTERVAL_SECONDS = 1.0


class Pulse:
    """A thread that beats on its lines once a second."""

    def __init__(self, *lines: Line) -> None:
        self._lines = list(lines)
        self._over = threading.Event()
        threading.Thread(target=self._run, name="pulse", daemon=True).start()

    def add(self, line: Line) -> None:
        """Beat on one more line."""
        self._lines.append(line)

    def close(self) -> None:
        """Stop."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(INTERVAL_SECONDS):
            for line in list(self._lines):
                try:
                    line.beat()
                except WorkerLost:  # whoever reads this line is told, too
                    self._lines.remove(line)
