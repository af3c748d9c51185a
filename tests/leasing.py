"""Strategies of workers at their own pace, in one process: workers are threads, lines are real."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hocket.comms.wire import Address, Line, Listener, Message, connect, new_secret
from hocket.core.protocols import Contribution, Lease, LeasedStrategy
from hocket.core.work import GlobalBatch, MicroBatch, MicroBatchSpec
from hocket.parallel.whole import WholeReplica
from hocket.sync.dispenser import Dispenser
from hocket.sync.flat import FlatState, OptimiserSpec
from hocket.sync.gossip import GossipSettings
from hocket.sync.leased import LeasedContext, LeasedSettings
from hocket.sync.server import ServerSettings
from hocket.sync.shard import Shard
from hocket.sync.shard_process import serve
from hocket.training.leased.keepers import Keeper, Memory, Neighbours, Shards
from hocket.training.leased.state import Template
from hocket.training.recipe import OptimiserSettings

NUM_MICRO_BATCHES = 6
SGD = OptimiserSpec("sgd")


class Toy(torch.nn.Module):
    """A loss that is a sum over utterances, like the real one; one parameter never takes part."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        self.first = torch.nn.Parameter(torch.randn(5, 7, generator=draw))
        self.unused = torch.nn.Parameter(torch.randn(4, generator=draw))
        self.second = torch.nn.Parameter(torch.randn(7, generator=draw))
        self.double()

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        return ((batch.features_BTF @ self.first).tanh() @ self.second).square().sum()


def micro_batch(step: int, index: int) -> MicroBatch:
    draw = torch.Generator().manual_seed(100 * step + index)
    size = 1 + index % 3
    return MicroBatch(
        index=index,
        ids=[f"utterance-{index}-{n}" for n in range(size)],
        features_BTF=torch.randn(size, 4 + index, 5, generator=draw, dtype=torch.float64),
        feature_lens_B=torch.full((size,), 4 + index),
        tokens_BU=torch.zeros((size, 1), dtype=torch.int64),
        token_lens_B=torch.ones(size, dtype=torch.int64),
    )


def global_batch(step: int) -> GlobalBatch:
    specs = []
    for index in range(NUM_MICRO_BATCHES):
        size = 1 + index % 3
        rows = np.arange(size)
        specs.append(
            MicroBatchSpec(index, rows, rows, 4 + index, 1, size * (4 + index), 30 * size, 1.0 + index)
        )
    return GlobalBatch(0, step, tuple(specs))


def replica() -> WholeReplica:
    return WholeReplica(Toy(), torch.device("cpu"), precision="fp32", bucket_mb=float("inf"))


class _Line:
    """The supervisor's end of a line to a shard that lives in this process."""

    def __init__(self, shard: Shard, hear: Callable[[Any, Message], None]) -> None:
        self._shard, self._hear = shard, hear

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        if kind == "load":
            self._shard.load(facts, [tensor.clone() for tensor in tensors])
            self._hear(self, Message("loaded", {"generation": facts["generation"]}))
        elif kind == "dump":
            state = self._shard.state()
            self._hear(self, Message("state", {"num_updates": state.num_updates}, state.tensors))
        else:
            self._shard.norm(facts)

    def close(self) -> None:
        pass


class _Shards(Shards):
    """Shards as threads of this process."""

    def use(self, secret: str, told: queue.SimpleQueue[Any]) -> None:
        self._secret, self._told = secret, told
        self._spawn = self._thread
        self.listeners: list[Listener] = []

    def _thread(self, index: int) -> Any:
        shard = Shard(lambda kind, **facts: self._told.put((line, Message(kind, facts))))
        line: Any = _Line(shard, self.hear)
        listener = Listener(
            self._secret, f"shard {index}", lambda each: serve(shard, each), max_payload=1 << 20
        )
        self.listeners.append(listener)
        self.hear(line, Message("shard", {"index": index, "address": list(listener.address)}))


@dataclass
class Course:
    """What became of a training."""

    weights: torch.Tensor
    contributions: list[tuple[int, Lease, Contribution]] = field(default_factory=list)
    norms: list[float | None] = field(default_factory=list)
    spread: list[torch.Tensor] = field(default_factory=list)
    """Weights of each worker at the end."""


class _Member:
    def __init__(self, rank: int, strategy: LeasedStrategy) -> None:
        self.rank, self.strategy = rank, strategy
        self.address = getattr(strategy, "address", None)

    def send(self, kind: str, tensors: Any = (), **facts: Any) -> None:
        assert kind == "take"
        self.strategy.take(tensors, facts["num_updates"])


class Leasing:
    """A supervisor and its workers, without processes."""

    def __init__(
        self,
        settings: LeasedSettings,
        num_workers: int,
        *,
        spec: OptimiserSpec = SGD,
        max_grad_norm: float = 0.0,
        lr: float = 0.1,
        waits: dict[int, Callable[[Leasing, Lease], bool]] | None = None,
    ) -> None:
        """``waits``: a worker keeps what it computed for a lease until this is true."""
        self.settings, self.lr, self._waits = settings, lr, waits or {}
        self.generation = 0
        self._per = settings.micro_batches_per_lease
        self.num_parts = -(-NUM_MICRO_BATCHES // self._per)
        self._secret = new_secret()
        self._told: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.template = Template(replica(), OptimiserSettings())
        self.template.spec = spec
        zero = torch.zeros_like(self.template.state.weights)
        slots = {name: zero.clone() for name in spec.slots}
        self.template.state = FlatState(self.template.state.weights, slots)
        self.keeper = self._make_keeper(max_grad_norm)
        self.course = Course(self.template.state.weights)
        self.replicas = [replica() for _ in range(num_workers)]
        self._members: list[_Member] = []
        for rank, each in enumerate(self.replicas):
            context = LeasedContext(self._connect, self._listen, spec, max_grad_norm, 1, rank)
            strategy = settings.make_worker(context)
            strategy.attach(each)
            self._members.append(_Member(rank, strategy))
        self._errors: list[BaseException] = []
        self.lock = threading.Lock()

    def train(self, steps: int) -> Course:
        self.keeper.open(self, 0)  # type: ignore[arg-type]
        for member in self._members:
            member.strategy.join({**self.keeper.facts(), "generation": 0})
        self.keeper.spread()
        self.dispenser = Dispenser(0, self.num_parts, self.keeper.window)
        self._over = threading.Event()
        threads = [threading.Thread(target=self._work, args=(member,)) for member in self._members]
        for thread in threads:
            thread.start()
        try:
            every = self.keeper.full_every or steps
            while self.dispenser.completed < steps:
                with self.lock:
                    self.dispenser.fence = min(steps, self.dispenser.completed + every)
                self._until(lambda: self.dispenser.quiet)
                if self.keeper.announces:
                    self._until(lambda: len(self.course.norms) == self.dispenser.completed)
                self.keeper.gather()
                self.keeper.spread()
        finally:
            self._over.set()
            for thread in threads:
                thread.join(30)
        self.course.weights = self.template.state.weights.clone()
        for member, each in zip(self._members, self.replicas, strict=True):
            member.strategy.refresh()
            self.course.spread.append(torch.cat([p.detach().reshape(-1) for p in each.buckets[0].parameters]))
            member.strategy.close()
        for listener in getattr(self.keeper, "listeners", []):
            listener.close()
        if isinstance(self.keeper, Memory):
            self.keeper.close()
        return self.course

    def done_by(self, rank: int) -> list[Lease]:
        """What a worker has contributed so far."""
        return [lease for who, lease, _ in list(self.course.contributions) if who == rank]

    def _until(self, done: Callable[[], bool], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not done():
            with suppress(queue.Empty):
                self.keeper.hear(*self._told.get(timeout=0.002))
            if self._errors:
                raise self._errors[0]
            assert time.monotonic() < deadline, "it does not go on"

    def _work(self, member: _Member) -> None:
        try:
            while not self._over.is_set():
                with self.lock:
                    ticket = self.dispenser.lease(member.rank, len(self._members))
                    completed = self.dispenser.completed
                if ticket is None:
                    time.sleep(0.001)
                    continue
                batch = global_batch(ticket.step)
                first = ticket.number * self._per
                specs = batch.micro_batches[first : first + self._per]
                lease = Lease(batch, ticket.number, self.num_parts, specs, self.lr, 0, completed)
                member.strategy.prepare(lease)
                results = self.replicas[member.rank].forward_backward(
                    [micro_batch(ticket.step, spec.index) for spec in specs]
                )
                time.sleep(0.0)  # let others have their turn
                goes_on = self._waits.get(member.rank, lambda *_: True)
                while not goes_on(self, lease) and not self._over.is_set():
                    time.sleep(0.001)
                contribution = member.strategy.contribute(lease, results)
                with self.lock:
                    self.course.contributions.append((member.rank, lease, contribution))
                    assert self.dispenser.done(member.rank, ticket)
        except BaseException as error:
            self._errors.append(error)

    def _make_keeper(self, max_grad_norm: float) -> Keeper:
        if isinstance(self.settings, ServerSettings):
            keeper = _Shards(
                self.settings,
                None,  # type: ignore[arg-type]  # its own threads
                num_parts=self.num_parts,
                max_grad_norm=max_grad_norm,
                patience=60,
            )
            keeper.use(self._secret, self._told)
            return keeper
        return Neighbours(self.settings) if isinstance(self.settings, GossipSettings) else Memory()

    def _connect(self, address: Address) -> Line:
        line = connect(address, self._secret, "worker", max_payload=1 << 20)
        line.set_patience(60.0)
        return line

    def _listen(self, on_line: Callable[[Line], None]) -> Listener:
        return Listener(self._secret, "worker", on_line, max_payload=1 << 20)

    # What keepers ask of a supervisor.

    def wait_for(self, done: Callable[[], bool], seconds: float, what: Callable[[], str]) -> None:
        self._until(done)

    def members(self) -> list[_Member]:
        return self._members

    def answers(self, kind: str, answer: str, **facts: Any) -> list[Message]:
        if kind == "rest":
            for member in self._members:
                member.strategy.rest()
            return []
        given = [member.strategy.give() for member in self._members]
        return [Message(answer, {"num_updates": updates}, tensors) for tensors, updates in given]

    def updated(self, step: int, norm: float | None, skipped: bool) -> None:
        assert step == len(self.course.norms)
        self.course.norms.append(norm)
