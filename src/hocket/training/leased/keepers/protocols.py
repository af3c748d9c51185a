"""What a keeper of weights offers the supervisor, and what it sees of it and of the workers.

A keeper is the supervisor's side of a strategy. It brings the template up to date at consistent
points (:meth:`Keeper.gather`), and tells workers where they find the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from hocket.comms.wire import Line, Message
from hocket.training.leased.state import Template


class Member(Protocol):
    """A worker, as keepers see it."""

    rank: int
    address: tuple[str, int] | None

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        """Say something; to a worker that is gone it is lost."""
        ...


class Hub(Protocol):
    """The supervisor, as keepers see it."""

    template: Template
    generation: int

    def wait_for(self, done: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        """Listen until ``done``; raises :class:`RunError` with ``what`` after so many seconds."""
        ...

    def members(self) -> list[Member]:
        """Workers that are there and ready, by rank."""
        ...

    def answers(self, kind: str, answer: str, **facts: Any) -> list[Message]:
        """Ask all members something; the answers of those that are still there."""
        ...

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        """An update of the weights was made, of the whole step."""
        ...


class ShardGone(Exception):
    """A shard of the parameter server is lost: its weights have to come from a checkpoint."""


class Keeper(Protocol):
    """See the module."""

    window: int | None
    """See :class:`hocket.sync.dispenser.Dispenser`."""
    announces: bool
    """Updates of whole steps are announced through :meth:`Hub.updated`."""
    full_every: int
    """Steps between consistent points that the strategy itself wants; 0: none."""

    def open(self, hub: Hub, step: int) -> None:
        """Begin, or begin again, with the template's state before optimiser step ``step``."""
        ...

    def facts(self) -> dict[str, Any] | None:
        """What workers are told: see :meth:`hocket.core.protocols.LeasedStrategy.join`.

        None while somebody is missing: they are told once all are back.
        """
        ...

    def gather(self) -> None:
        """Bring the template up to date; nothing is leased while it runs."""
        ...

    def spread(self) -> None:
        """Give all workers the template's state, where they do not find it by themselves."""
        ...

    def hear(self, line: Line, message: Message) -> None:
        """A message that is no worker's."""
        ...

    def owns(self, line: Line) -> bool:
        """True for a line to one of the keeper's own processes."""
        ...

    def check(self) -> None:
        """Raises :class:`ShardGone` when one of its processes has ended."""
        ...

    def lost(self, line: Line, why: str) -> None:
        """A line of its own ended. Raises :class:`ShardGone`."""
        ...

    def close(self) -> None:
        """End its processes; remove what it left on the machine."""
        ...


class NoProcesses:
    """What keepers without processes of their own have in common."""

    announces = False
    window: int | None = None
    full_every = 0

    def hear(self, line: Line, message: Message) -> None:
        """Nobody else speaks."""

    def owns(self, line: Line) -> bool:
        """It has no lines."""
        return False

    def check(self) -> None:
        """Nothing can be lost."""

    def lost(self, line: Line, why: str) -> None:
        """It has no lines."""
