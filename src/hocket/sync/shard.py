"""One shard of a parameter server: a slice of the weights, its optimiser, and the rule of its updates.

``synchronous`` and ``bounded`` add the parts of step t and make update t when all of them are here:
the same update as all-reduce's, whoever sent the parts and in whatever order; under ``bounded`` the
parts were computed with weights of at least version ``t - max_staleness``. ``asynchronous`` updates
with every ``update_every`` parts as they come.

A part counts once, however often it is sent: a worker may die between two shards, and another then
sends the same part again.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from hocket.sync.flat import FlatOptimiser, FlatState, OptimiserSpec, Span
from hocket.sync.pushing import decode

_POLL_SECONDS = 1.0

Tell = Callable[..., None]


@dataclass
class _Round:
    """What has come in for one update."""

    total: torch.Tensor
    numbers: set[tuple[int, int]] = field(default_factory=set)
    tokens: float = 0.0
    share: float = 0.0
    lr: float = 0.0
    bad: bool = False
    announced: bool = False


class Shard:
    """The state of one shard; its methods may be called by any thread.

    ``tell(kind, **facts)`` speaks to the supervisor, which adds up the shards' parts of a norm.
    """

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._generation = -1
        self.version = 0

    def load(self, facts: dict[str, Any], tensors: Sequence[torch.Tensor]) -> None:
        """Begin, or go back: weights and optimiser state of this slice, and the rules of the run."""
        spec = OptimiserSpec(**facts["optimiser"])
        layout = [Span(*span) for span in facts["layout"]]
        with self._changed:
            self._rules = facts
            self._in_order = facts["mode"] != "asynchronous"
            state = FlatState.of(tensors, spec.slots, facts["num_updates"])
            self._gradient = torch.zeros_like(state.weights)
            self._optimiser = FlatOptimiser(spec, layout, torch.empty_like(state.weights), self._gradient)
            self._optimiser.load(state)
            self.version = int(facts["version"])
            self._rounds: dict[int, _Round] = {}
            self._seen: set[tuple[int, int]] = set()
            self._snapshot: tuple[int, torch.Tensor] = (-1, self._gradient)
            self._generation = int(facts["generation"])
            self._changed.notify_all()

    @property
    def size(self) -> int:
        """Numbers in this slice; 0 before :meth:`load`."""
        return self._gradient.numel() if self._generation >= 0 else 0

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self._gradient.dtype

    def state(self) -> FlatState:
        """A copy of the slice as it is now, with what still waited for more parts."""
        with self._changed:
            if -1 in self._rounds:
                self._update_at_once(self._rounds.pop(-1))
            now = self._optimiser.state()
            slots = {name: value.clone() for name, value in now.slots.items()}
            return FlatState(now.weights.clone(), slots, now.num_updates)

    def push(self, facts: dict[str, Any], pushed: torch.Tensor) -> dict[str, Any]:
        """Add the gradient of one part; says whether it counted, and how stale it was."""
        part = (int(facts["step"]), int(facts["number"]))
        with self._changed:
            if facts["generation"] != self._generation:
                return {"refused": True}
            key = part[0] if self._in_order else -1
            if part in self._seen or (self._in_order and part[0] < self.version):
                return {"counted": False, "staleness": 0}
            self._seen = {seen for seen in self._seen if seen[0] >= int(facts["completed"])}
            self._seen.add(part)
            staleness = (part[0] if self._in_order else self.version) - int(facts["pulled"])
            round_ = self._rounds.get(key)
            if round_ is None:
                round_ = self._rounds[key] = _Round(torch.zeros_like(self._gradient))
            round_.numbers.add(part)
            round_.lr = float(facts["lr"])
            if facts["bad"]:
                round_.bad |= self._in_order  # a step is skipped as a whole, a part alone is left out
            else:
                round_.tokens += float(facts["tokens"])
                round_.share += float(facts["share"])
                gradient = decode(pushed, self.size, self.dtype)
                round_.total.add_(gradient, alpha=float(facts["factor"]))
            if self._in_order:
                self._announce()
            elif len(round_.numbers) >= self._rules["update_every"]:
                self._update_at_once(self._rounds.pop(key))
            return {"counted": True, "staleness": staleness}

    def pull(
        self, facts: dict[str, Any], alive: Callable[[], None]
    ) -> tuple[dict[str, Any], list[torch.Tensor]]:
        """The weights, as soon as their version is at least ``need``; none when ``have`` is the newest.

        While it waits, ``alive`` is called every second.
        """
        with self._changed:
            while self.version < facts["need"] and facts["generation"] == self._generation:
                if not self._changed.wait(_POLL_SECONDS):
                    alive()
            if facts["generation"] != self._generation:
                return {"refused": True}, []
            told = {"version": self.version}
            if facts["have"] == self.version:
                return told, []
            if self._snapshot[0] != self.version:  # others may update while this is on its way
                self._snapshot = (self.version, self._optimiser.state().weights.clone())
            return told, [self._snapshot[1]]

    def norm(self, facts: dict[str, Any]) -> None:
        """From the supervisor: the square of the norm over all shards, of the step that waits for it."""
        with self._changed:
            if facts["generation"] == self._generation and facts["step"] == self.version:
                self._update(float(facts["square"]))
                self._announce()

    def _announce(self) -> None:
        """Update, or say the slice's part of the norm, when the next step is complete."""
        while True:
            round_ = self._rounds.get(self.version)
            complete = round_ is not None and len(round_.numbers) == self._rules["num_parts"]
            if not complete or round_ is None or round_.announced:
                return
            round_.announced = True
            square = math.inf if round_.bad else float(torch.linalg.vector_norm(round_.total).double() ** 2)
            if self._rules["num_shards"] > 1:
                # JSON has no infinity that every reader takes: minus one stands for what is not finite.
                square = square if math.isfinite(square) else -1.0
                self._tell("partial", step=self.version, generation=self._generation, square=square)
                return
            self._update(square)

    def _update(self, square: float) -> None:
        """Update ``version`` of a step that is complete, clipped by the norm over all shards."""
        round_ = self._rounds.pop(self.version)
        norm = math.sqrt(square) / round_.tokens if square >= 0 and round_.tokens else math.inf
        skipped = not math.isfinite(norm)
        if not skipped:
            limit = float(self._rules["max_grad_norm"])
            clip = min(1.0, limit / norm) if limit > 0 and norm > 0 else 1.0
            torch.mul(round_.total, clip / round_.tokens, out=self._gradient)
            self._optimiser.step(round_.lr)
        told_norm = None if skipped else norm
        self._tell("updated", step=self.version, generation=self._generation, norm=told_norm, skipped=skipped)
        self.version += 1
        self._changed.notify_all()

    def _update_at_once(self, round_: _Round) -> None:
        """Parts are clipped by their senders; the step is as long as their share of a global batch."""
        if round_.tokens:
            torch.mul(round_.total, 1.0 / round_.tokens, out=self._gradient)
            self._optimiser.step(round_.lr * round_.share)
        self.version += 1
        self._changed.notify_all()
