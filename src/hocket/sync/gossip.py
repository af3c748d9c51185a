"""Gossip: every worker learns by itself and averages its weights with one neighbour at a time.

Asynchronous decentralised SGD: Lian et al., *Asynchronous Decentralized Parallel Stochastic Gradient
Descent* (AD-PSGD), ICML 2018. A full average every so many steps on top: Chen et al., *Accelerating
Gossip SGD with Periodic Global Averaging*, ICML 2021.

An exchange sends a copy of the own weights ``s`` to a neighbour with weights ``x``; the neighbour takes
``d = (s - x) / 2``, adds ``d`` to its weights and sends it back, and the first subtracts it from what
its weights have become in the meantime. The sum over all workers stays what it was, whatever else
happens to either side meanwhile. So nobody holds a lock while it waits for somebody, and no graph of
neighbours can deadlock; the paper needs a bipartite one for that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from hocket.comms.wire import Address, Line
from hocket.core import seeds
from hocket.core.errors import WorkerLost
from hocket.core.protocols import Contribution, Lease, LeasedStrategy, MicroBatchResult, Replica
from hocket.sync.flat import FlatOptimiser, FlatState, flatten_weights, spans
from hocket.sync.leased import LeasedContext, LeasedSettings, clip, norm_per_token, only_bucket


class GossipSettings(LeasedSettings):
    """Averaging with neighbours."""

    name: Literal["gossip"] = "gossip"
    topology: Literal["ring", "random", "full"] = "ring"
    """Who averages with whom: the two neighbours in turn, anybody, or all with all after every step
    (that is synchronous, and equal to all-reduce under SGD)."""

    average_every: int = Field(default=0, ge=0)
    """Steps between averages over all workers; 0: only where a checkpoint or a validation is due."""

    @property
    def full_every(self) -> int:
        """Steps between averages over all workers, as the topology has it."""
        return 1 if self.topology == "full" else self.average_every

    def make_worker(self, context: LeasedContext) -> LeasedStrategy:
        """See :class:`Gossip`."""
        return Gossip(self, context)


class Gossip:
    """One worker, with a thread that begins exchanges and one for each neighbour that asks for them."""

    def __init__(self, settings: GossipSettings, context: LeasedContext) -> None:
        self._settings, self._connect, self._spec = settings, context.connect, context.optimiser
        self._max_grad_norm, self._seed, self._rank = context.max_grad_norm, context.seed, context.rank
        self._members: dict[int, Address] = {}
        self._lines: dict[int, Line] = {}
        self._asked: int | None = None
        self._step: Lease | None = None
        self._merges = self._merges_seen = 0
        self._num_exchanges = 0
        self._bytes = {"sent": 0.0, "received": 0.0}
        self._lock = threading.Lock()
        self._wanted = threading.Semaphore(0)
        self._idle = threading.Event()
        self._idle.set()
        self._failure: BaseException | None = None
        self._listener = context.listen(self._serve)
        threading.Thread(target=self._exchange_for_ever, name="exchange", daemon=True).start()

    @property
    def address(self) -> Address:
        """Where neighbours reach this worker."""
        return self._listener.address

    def attach(self, replica: Replica) -> None:
        """A second copy of the weights, which neighbours average; the replica computes on its own."""
        self._bucket = only_bucket(replica)
        self._weights = flatten_weights(self._bucket)
        self._own = self._weights.clone()
        self._sum = torch.zeros_like(self._own)
        self._optimiser = FlatOptimiser(self._spec, spans(self._bucket), self._own, self._sum)

    def join(self, facts: dict[str, Any]) -> None:
        """Who is there now."""
        self._members = {int(rank): (host, port) for rank, (host, port) in facts["members"].items()}
        for rank in [rank for rank in list(self._lines) if rank not in self._members]:
            self._drop(rank)

    def prepare(self, lease: Lease) -> None:
        """A part of another step: take the own step with what came together, and begin an exchange.

        Where the last exchange is still under way, behind a slow link, none is begun.
        """
        if self._step is None or self._step.batch.step != lease.batch.step:
            self._take_step()
            self._step = lease
            self.refresh()
            # One at a time: behind a slow link more would queue up, and go on beyond the next `rest`.
            apart = self._settings.topology != "full" and len(self._members) > 1
            if apart and self._idle.is_set():
                self._idle.clear()
                self._wanted.release()

    def contribute(self, lease: Lease, results: Sequence[MicroBatchResult]) -> Contribution:
        """Keep the gradient for the own step."""
        norm = norm_per_token(self._bucket, lease.tokens, results)
        staleness = self._merges - self._merges_seen
        if not math.isfinite(norm):
            return Contribution(0.0, staleness, skipped=True)
        self._sum.add_(self._bucket.flat)
        return Contribution(norm, staleness)

    def rest(self) -> None:
        """Take the own step, and wait for the exchange that is under way. Raises what exchanging raised."""
        self._take_step()
        self._idle.wait()
        if self._failure is not None:
            raise self._failure

    def give(self) -> tuple[list[torch.Tensor], float]:
        """The weights that neighbours average, and the own optimiser's state."""
        with self._lock:
            state = self._optimiser.state()
            return [tensor.clone() for tensor in state.tensors], state.num_updates

    def take(self, tensors: Sequence[torch.Tensor], num_updates: float) -> None:
        """Go on from the average."""
        with self._lock:
            self._optimiser.load(FlatState.of(tensors, self._spec.slots, num_updates))
        self._sum.zero_()
        self._step = None
        self.refresh()

    def refresh(self) -> None:
        """Compute with the present weights."""
        with self._lock:
            self._weights.copy_(self._own)
            self._merges_seen = self._merges

    def tell(self) -> dict[str, float]:
        """Exchanges that this worker began, and its bytes on the wire."""
        lines = list(self._lines.values())
        return {
            "exchanges": float(self._num_exchanges),
            "bytes_sent": self._bytes["sent"] + sum(line.bytes_sent for line in lines),
            "bytes_received": self._bytes["received"] + sum(line.bytes_received for line in lines),
        }

    def close(self) -> None:
        """End all lines."""
        self._listener.close()
        for rank in list(self._lines):
            self._drop(rank)

    def _take_step(self) -> None:
        """The own step, as long as if every worker had what this one has.

        In the mean over workers the gradient is then that of the whole step.
        """
        if self._step is None:
            return
        batch, lr = self._step.batch, self._step.lr
        self._step = None
        with self._lock:
            self._sum.mul_(max(1, len(self._members)) / max(1, batch.total_tokens))
            norm = float(torch.linalg.vector_norm(self._sum))
            self._sum.mul_(clip(norm, self._max_grad_norm))
            self._optimiser.step(lr)
            self._sum.zero_()

    def _exchange_for_ever(self) -> None:
        while True:
            self._wanted.acquire()
            try:
                chosen = self._choose()
                if chosen is not None:
                    self._exchange(*chosen)
            except BaseException as error:  # the main thread raises it again
                self._failure = error
            finally:
                self._asked = None
                self._idle.set()

    def _choose(self) -> tuple[int, Address] | None:
        """The next neighbour: the same sequence whenever the same seed and members come together.

        With its address: by the time it is asked it may be no member any more.
        """
        members = self._members
        ranks = sorted(members)
        if self._rank not in ranks or len(ranks) < 2:
            return None
        self._num_exchanges += 1
        place = ranks.index(self._rank)
        if self._settings.topology == "ring":
            rank = ranks[(place + (1 if self._num_exchanges % 2 else -1)) % len(ranks)]
            return rank, members[rank]
        drawn = seeds.uniform(
            seeds.key("gossip", self._seed, self._rank), np.array([self._num_exchanges], dtype=np.uint64)
        )
        rank = ranks[(place + 1 + int(drawn[0] * (len(ranks) - 1))) % len(ranks)]
        return rank, members[rank]

    def _exchange(self, rank: int, address: Address) -> None:
        try:
            line = self._lines.get(rank)
            if line is None:
                line = self._lines[rank] = self._connect(address)
            self._mix(rank, line)
        except WorkerLost:  # the supervisor says who is lost; until then others are asked
            self._drop(rank)

    def _mix(self, rank: int, line: Line) -> None:
        self._asked = rank  # before the copy: what is served from here on cannot come from that side
        with self._lock:
            copy = self._own.to("cpu", copy=True)
        line.send("mix", [copy], rank=self._rank)
        answer = line.receive(copy)
        if answer.kind == "delta":
            with self._lock:
                self._own.sub_(answer.tensors[0].to(self._own.device))
                self._merges += 1

    def _serve(self, line: Line) -> None:
        """Answer one neighbour until its line ends."""
        line.set_patience(None)
        buffer = torch.empty(0)
        try:
            while True:
                message = line.receive(buffer)
                other = int(message.facts["rank"])
                if self._asked == other and self._rank < other:
                    # Both asked each other at once: averaging twice would only swap the weights.
                    line.send("busy")
                    continue
                buffer = message.tensors[0]
                with self._lock:
                    delta = buffer.to(self._own.device).sub_(self._own).mul_(0.5)
                    self._own.add_(delta)
                    self._merges += 1
                line.send("delta", [delta])
        except WorkerLost:
            return

    def _drop(self, rank: int) -> None:
        line = self._lines.pop(rank, None)
        if line is not None:
            line.close()
            self._bytes["sent"] += line.bytes_sent
            self._bytes["received"] += line.bytes_received
