"""Keeper of ``hogwild``: all workers of this host map the same weights."""

from __future__ import annotations

from typing import Any

from hocket.sync.flat import FlatState
from hocket.sync.hogwild import SharedState
from hocket.training.leased.keepers.protocols import Hub, NoProcesses


class Memory(NoProcesses):
    """Keeper of ``hogwild``: the weights lie in memory that all workers of this host share."""

    def __init__(self) -> None:
        self._shared: SharedState | None = None

    def open(self, hub: Hub, step: int) -> None:
        """Put the weights there."""
        self._hub = hub
        self._first = hub.template.state.num_updates
        self._shared = SharedState.create(hub.template.state)

    def facts(self) -> dict[str, Any]:
        """Where to map them from."""
        assert self._shared is not None
        return {"memory": str(self._shared.folder), "num_updates": self._first}

    def gather(self) -> None:
        """Copy the shared state."""
        assert self._shared is not None
        updates = self._first + int(self._shared.counts.sum())
        self._hub.template.set(FlatState(self._shared.weights, self._shared.slots, updates))

    def spread(self) -> None:
        """Not needed: the weights are shared."""

    def close(self) -> None:
        """Delete the files."""
        if self._shared is not None:
            self._shared.remove()
