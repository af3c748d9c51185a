"""Keeper of ``gossip``: every worker has weights of its own."""

from __future__ import annotations

from typing import Any

from hocket.sync.gossip import GossipSettings
from hocket.training.leased.keepers.protocols import Hub, NoProcesses


class Neighbours(NoProcesses):
    """Keeper of ``gossip``: every worker has weights of its own; their mean is what counts."""

    def __init__(self, settings: GossipSettings) -> None:
        self.full_every = settings.full_every
        self.window = 0 if settings.topology == "full" else None

    def open(self, hub: Hub, step: int) -> None:
        """Nothing to start."""
        self._hub = hub

    def facts(self) -> dict[str, Any]:
        """The addresses of all workers."""
        return {"members": {member.rank: member.address for member in self._hub.members()}}

    def gather(self) -> None:
        """The mean over all workers, of weights and of optimiser state, taken while all keep still."""
        self._hub.answers("rest", "rested")
        state = self._hub.template.state
        given = self._hub.answers("give", "given")
        if not given:
            return
        for number, whole in enumerate(state.tensors):
            whole.zero_()
            for message in given:
                whole.add_(message.tensors[number], alpha=1.0 / len(given))
        state.num_updates = sum(message.facts["num_updates"] for message in given) / len(given)

    def spread(self) -> None:
        """All go on from the mean."""
        state = self._hub.template.state
        for member in self._hub.members():
            member.send("take", state.tensors, num_updates=state.num_updates)

    def close(self) -> None:
        """Nothing to end."""
