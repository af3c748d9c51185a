"""The worker's side of a parameter server: pull weights, push gradients, shard by shard.

Downpour SGD: Dean et al., *Large Scale Distributed Deep Networks*, NIPS 2012. Bounded staleness: Ho et
al., *More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server*, NIPS 2013.
Updates with several parts at a time: Zhang et al., *Staleness-aware Async-SGD*, IJCAI 2016.
The other side is :mod:`hocket.sync.shard`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from pydantic import Field

from hocket.comms.wire import Address, Line
from hocket.core.errors import WorkerLost
from hocket.core.protocols import Contribution, Lease, LeasedStrategy, MicroBatchResult, Replica
from hocket.sync.flat import flatten_weights, shard_borders
from hocket.sync.leased import LeasedContext, LeasedSettings, clip, norm_per_token, only_bucket
from hocket.sync.pushing import PushType, encoder


class ServerSettings(LeasedSettings):
    """A parameter server."""

    name: Literal["server"] = "server"
    mode: Literal["synchronous", "asynchronous", "bounded"] = "asynchronous"
    """``synchronous``: all-reduce's steps, without a collective. ``asynchronous``: every part is an
    update as it comes (Downpour). ``bounded``: all-reduce's steps from parts that are at most
    ``max_staleness`` steps old (stale-synchronous)."""

    shards: int = Field(default=1, ge=1)
    """Processes that hold a slice of the weights each."""

    max_staleness: int = Field(default=4, ge=0)
    """``bounded``: a part of step t is computed with weights of version t minus this, or newer."""

    update_every: int = Field(default=1, ge=1)
    """``asynchronous``: parts whose gradients make one update; with all of a step it is softsync."""

    push_type: PushType = "fp32"
    """How gradients are written on their way; ``one_bit`` keeps what it leaves out for the next push."""

    def make_worker(self, context: LeasedContext) -> LeasedStrategy:
        """See :class:`ParameterServer`."""
        return ParameterServer(self, context.connect, max_grad_norm=context.max_grad_norm)


class Refused(Exception):
    """The shards have gone back to a checkpoint: what was computed before counts no more."""


class ParameterServer:
    """See the module. ``connect(address)`` makes a line to a shard."""

    def __init__(
        self,
        settings: ServerSettings,
        connect: Callable[[Address], Line],
        *,
        max_grad_norm: float,
    ) -> None:
        self._settings, self._connect, self._max_grad_norm = settings, connect, max_grad_norm
        self._lines: list[Line] = []
        self._addresses: list[Address] = []
        self._generation = -1
        self._bytes = {"sent": 0.0, "received": 0.0}

    def attach(self, replica: Replica) -> None:
        """Make the replica's weights one vector that pulls write into."""
        self._bucket = only_bucket(replica)
        self._weights = flatten_weights(self._bucket)
        self._on_host = self._weights.device.type == "cpu"
        self._landing = self._weights if self._on_host else torch.empty_like(self._weights, device="cpu")
        borders = shard_borders(self._weights.numel(), self._settings.shards)
        self._slices = list(pairwise(borders))
        self._encoders = [
            encoder(self._settings.push_type, stop - start, self._weights.dtype)
            for start, stop in self._slices
        ]

    def join(self, facts: dict[str, Any]) -> None:
        """Lines to the shards, new ones after a shard was replaced."""
        if facts["generation"] == self._generation and self._lines:
            return
        self.close()
        self._lines = [self._connect((host, port)) for host, port in facts["shards"]]
        self._generation = facts["generation"]
        self._versions = [-1] * len(self._lines)

    def prepare(self, lease: Lease) -> None:
        """Pull; in the ordered modes wait until the version is new enough."""
        need = 0
        if self._settings.mode != "asynchronous":
            allowed = self._settings.max_staleness if self._settings.mode == "bounded" else 0
            need = lease.batch.step - allowed
        self._pull(need)

    def contribute(self, lease: Lease, results: Sequence[MicroBatchResult]) -> Contribution:
        """Push the sum of gradients, and wait until all shards have it."""
        norm = norm_per_token(self._bucket, lease.tokens, results)
        bad = not math.isfinite(norm)
        at_once = self._settings.mode == "asynchronous"
        gradient = self._bucket.flat.detach().to("cpu")
        if bad:  # nothing of it may stay in a residual
            gradient = torch.zeros_like(gradient)
        for line, (start, stop), version, encode in zip(
            self._lines, self._slices, self._versions, self._encoders, strict=True
        ):
            line.send(
                "push",
                [encode(gradient[start:stop])],
                generation=self._generation,
                step=lease.batch.step,
                number=lease.number,
                completed=lease.completed,
                pulled=version,
                tokens=lease.tokens,
                share=lease.share,
                lr=lease.lr,
                factor=clip(norm, self._max_grad_norm) if at_once and not bad else 1.0,
                bad=bad,
            )
        told = [self._ask(line) for line in self._lines]
        staleness = max(int(each["staleness"]) for each in told)
        return Contribution(norm if not bad else 0.0, staleness, skipped=bad and at_once)

    def rest(self) -> None:
        """Nothing is ever kept back."""

    def give(self) -> tuple[list[torch.Tensor], float]:
        """Not asked: the shards hold the state."""
        raise NotImplementedError("the state of a parameter server lies on its shards")

    def take(self, tensors: Sequence[torch.Tensor], num_updates: float) -> None:
        """Not needed: weights are pulled."""

    def refresh(self) -> None:
        """Pull the newest weights."""
        self._pull(0)

    def tell(self) -> dict[str, float]:
        """Bytes on the wire, of this worker."""
        sent = self._bytes["sent"] + sum(line.bytes_sent for line in self._lines)
        received = self._bytes["received"] + sum(line.bytes_received for line in self._lines)
        return {"bytes_sent": sent, "bytes_received": received}

    def close(self) -> None:
        """End the lines to the shards."""
        for line in self._lines:
            line.close()
            self._bytes["sent"] += line.bytes_sent
            self._bytes["received"] += line.bytes_received
        self._lines = []

    def _pull(self, need: int) -> None:
        if not self._lines:  # the last try to join them failed
            raise WorkerLost("the shards: no line to them")
        for line, have in zip(self._lines, self._versions, strict=True):
            line.send("pull", have=have, need=need, generation=self._generation)
        for number, (line, (start, stop)) in enumerate(zip(self._lines, self._slices, strict=True)):
            facts = self._ask(line, self._landing[start:stop])
            self._versions[number] = int(facts["version"])
        if not self._on_host:
            self._weights.copy_(self._landing)

    def _ask(self, line: Line, into: torch.Tensor | None = None) -> dict[str, Any]:
        message = line.receive(into)
        if message.facts.get("refused"):
            raise Refused
        if into is not None and message.tensors and message.tensors[0] is not into:
            raise WorkerLost(f"{line.peer}: sent weights of another size or type")
        return message.facts
