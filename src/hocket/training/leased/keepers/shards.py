"""Keeper of ``server``: starts a process for each slice of the weights, feeds it, and notices its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import torch

from hocket.comms.wire import ENDED, Line, Message
from hocket.core.errors import RunError, WorkerLost
from hocket.sync.flat import part_of, shard_borders
from hocket.sync.server import ServerSettings
from hocket.training.leased.crew import Process
from hocket.training.leased.keepers.protocols import Hub, ShardGone

_START_SECONDS = 600.0


class Shards:
    """Keeper of ``server``: a process for each slice of the weights."""

    full_every = 0

    def __init__(
        self,
        settings: ServerSettings,
        spawn: Callable[[int], Process],
        *,
        num_parts: int,
        max_grad_norm: float,
        patience: float,
    ) -> None:
        self._settings, self._spawn = settings, spawn
        self._num_parts, self._max_grad_norm, self._patience = num_parts, max_grad_norm, patience
        self.announces = settings.mode != "asynchronous"
        self.window = {"synchronous": 0, "bounded": settings.max_staleness}.get(settings.mode)
        self._processes: dict[int, Process] = {}
        self._lines: dict[int, Line] = {}
        self._addresses: dict[int, list[Any]] = {}
        self._loaded: set[int] = set()
        self._dumped: dict[int, Message] = {}
        self._squares: dict[int, dict[int, float]] = {}

    def open(self, hub: Hub, step: int) -> None:
        """Start the shards that are not there, and give each its slice."""
        self._hub = hub
        for index in range(self._settings.shards):
            if index not in self._processes:
                self._processes[index] = self._spawn(index)
        self._loaded.clear()
        self._squares.clear()
        hub.wait_for(
            lambda: len(self._lines) == self._settings.shards,
            _START_SECONDS,
            lambda: f"shard {self._missing(self._lines)} did not start",
        )
        state, layout = hub.template.state, hub.template.layout
        borders = shard_borders(state.weights.numel(), self._settings.shards)
        for index, (start, stop) in enumerate(pairwise(borders)):
            part = state.part(start, stop)
            pieces = part_of(layout, start, stop)
            self._say(
                index,
                "load",
                part.tensors,
                generation=hub.generation,
                version=step,
                num_updates=part.num_updates,
                optimiser=asdict(hub.template.spec),
                layout=[[piece.start, piece.stop, piece.decayed] for piece in pieces],
                mode=self._settings.mode,
                num_parts=self._num_parts,
                num_shards=self._settings.shards,
                update_every=self._settings.update_every,
                max_grad_norm=self._max_grad_norm,
                patience=self._patience,
            )
        hub.wait_for(
            lambda: len(self._loaded) == self._settings.shards,
            _START_SECONDS,
            lambda: f"shard {self._missing(self._loaded)} did not take its weights",
        )

    def facts(self) -> dict[str, Any] | None:
        """The addresses of all shards."""
        if len(self._addresses) < self._settings.shards:
            return None
        return {"shards": [self._addresses[index] for index in sorted(self._addresses)]}

    def gather(self) -> None:
        """Fetch all slices."""
        self._dumped.clear()
        for index in list(self._lines):
            self._say(index, "dump")
        self._hub.wait_for(
            lambda: len(self._dumped) == self._settings.shards,
            _START_SECONDS,
            lambda: f"shard {self._missing(self._dumped)} did not give its weights",
        )
        state = self._hub.template.state
        borders = shard_borders(state.weights.numel(), self._settings.shards)
        for index, (start, stop) in enumerate(pairwise(borders)):
            for whole, part in zip(state.part(start, stop).tensors, self._dumped[index].tensors, strict=True):
                whole.copy_(part)
        state.num_updates = self._dumped[0].facts["num_updates"]

    def spread(self) -> None:
        """Not needed: workers pull."""

    def hear(self, line: Line, message: Message) -> None:
        """From a shard."""
        facts = message.facts
        if message.kind == "shard":
            self._lines[facts["index"]] = line
            self._addresses[facts["index"]] = facts["address"]
            return
        index = next((index for index, own in self._lines.items() if own is line), None)
        if index is None:
            return  # of somebody who was given up
        if message.kind == "loaded" and facts["generation"] == self._hub.generation:
            self._loaded.add(index)
        elif message.kind == "state":
            self._dumped[index] = message
        elif facts.get("generation") != self._hub.generation:
            return
        elif message.kind == "partial":
            self._add_up(facts["step"], index, facts["square"])
        elif message.kind == "updated" and index == 0:
            self._hub.updated(facts["step"], facts["norm"], facts["skipped"])

    def owns(self, line: Line) -> bool:
        """True for a shard's line."""
        return line in self._lines.values()

    def check(self) -> None:
        """See :class:`Keeper`."""
        for index, process in self._processes.items():
            if process.ended:
                self._lose(index, "")

    def lost(self, line: Line, why: str) -> None:
        """See :class:`Keeper`."""
        index = next(index for index, own in self._lines.items() if own is line)
        self._processes[index].end(patience=1.0 if why.endswith(ENDED) else 0.0)
        self._lose(index, why)

    def close(self) -> None:
        """End the shards."""
        for line in self._lines.values():
            line.close()
        for process in self._processes.values():
            process.end(patience=1.0)

    def _lose(self, index: int, why: str) -> None:
        process = self._processes.pop(index)
        line = self._lines.pop(index, None)
        self._addresses.pop(index, None)
        if line is not None:
            line.close()
        if line is None:
            raise RunError(
                f"{process.describe('')} before it had begun; its last words:\n{process.last_words()}",
                f"Its log: {process.log}",
            )
        raise ShardGone(process.describe(f"was ended: {why}"))

    def _add_up(self, step: int, index: int, square: float) -> None:
        """When all slices of a step are complete, tell all shards the norm over them."""
        squares = self._squares.setdefault(step, {})
        squares[index] = square
        if len(squares) == self._settings.shards:
            del self._squares[step]
            total = -1.0 if min(squares.values()) < 0 else sum(squares[i] for i in sorted(squares))
            for other in list(self._lines):
                self._say(other, "norm", step=step, square=total, generation=self._hub.generation)

    def _say(self, index: int, kind: str, tensors: Sequence[torch.Tensor] = (), **facts: Any) -> None:
        with suppress(WorkerLost):  # whoever reads this line says so
            self._lines[index].send(kind, tensors, **facts)

    def _missing(self, there: Any) -> int:
        return next(index for index in range(self._settings.shards) if index not in there)
