"""Server, gossip and hogwild: the same steps as all-reduce where they should be, and sound elsewhere."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hocket.comms.communicator import Alone
from hocket.comms.wire import Address, Line, Listener
from hocket.core.errors import WorkerLost
from hocket.core.protocols import Lease, RankPart
from hocket.sync.all_reduce import AllReduce
from hocket.sync.flat import OptimiserSpec
from hocket.sync.gossip import GossipSettings
from hocket.sync.hogwild import HogwildSettings
from hocket.sync.leased import LeasedContext, LeasedSettings
from hocket.sync.pushing import OneBitPush, decode
from hocket.sync.server import ServerSettings
from leasing import SGD, Course, Leasing, global_batch, micro_batch, replica

STEPS = 50


def all_reduce(steps: int = STEPS, max_grad_norm: float = 0.0, adam: bool = False) -> torch.Tensor:
    """Plain training on one worker: the weights after ``steps``."""
    each = replica()
    strategy = AllReduce(Alone(), max_grad_norm=max_grad_norm)
    strategy.attach(each)
    parameters = list(each.model.parameters())
    optimiser: torch.optim.Optimizer = (
        torch.optim.AdamW(parameters, lr=0.1, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        if adam
        else torch.optim.SGD(parameters, lr=0.1, fused=True)
    )
    for step in range(steps):
        batch = global_batch(step)
        strategy.begin_step(batch, settle=False)
        loaded = [micro_batch(step, spec.index) for spec in batch.micro_batches]
        results = each.forward_backward(loaded, on_bucket=strategy.on_grad_ready)
        strategy.step(optimiser, RankPart(results)).result()
    return torch.cat([parameter.detach().reshape(-1) for parameter in each.buckets[0].parameters])


def train(settings: LeasedSettings, num_workers: int, steps: int = STEPS, **changes: Any) -> Course:
    return Leasing(settings, num_workers, **changes).train(steps)


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


DEGENERATE = {
    "synchronous": ServerSettings(mode="synchronous"),
    "synchronous-3-shards": ServerSettings(mode="synchronous", shards=3),
    "synchronous-pairs": ServerSettings(mode="synchronous", shards=2, micro_batches_per_lease=2),
    "bounded-0": ServerSettings(mode="bounded", max_staleness=0, shards=2),
    "gossip-full": GossipSettings(topology="full"),
    "gossip-full-pairs": GossipSettings(topology="full", micro_batches_per_lease=2),
}


@pytest.mark.parametrize("num_workers", [2, 4])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_settings_equal_all_reduce(name: str, num_workers: int) -> None:
    course = train(DEGENERATE[name], num_workers)
    assert distance(course.weights, all_reduce()) < 1e-9
    for weights in course.spread:
        assert distance(weights, course.weights) < 1e-12
    assert all(contribution.staleness == 0 for _, _, contribution in course.contributions)


@pytest.mark.parametrize("shards", [1, 3])
def test_clipping_is_by_a_norm_over_all_shards(shards: int) -> None:
    settings = ServerSettings(mode="synchronous", shards=shards)
    course = train(settings, 2, 10, max_grad_norm=0.01)
    assert max(norm for norm in course.norms if norm is not None) > 0.01  # it does clip
    assert distance(course.weights, all_reduce(10, max_grad_norm=0.01)) < 1e-9


def test_the_optimiser_lives_on_the_server() -> None:
    course = train(
        ServerSettings(mode="synchronous", shards=3), 2, 20, spec=OptimiserSpec("adamw", (0.9, 0.98))
    )
    assert distance(course.weights, all_reduce(20, adam=True)) < 1e-9


def the_other_has_work(run: Leasing, _: Lease) -> bool:
    """Worker 0 was leased something: threads may begin at any time."""
    return bool(run.dispenser.held(0) or run.done_by(0))


def test_bounded_staleness_is_bounded_and_used() -> None:
    last = 29

    def others_are_further(run: Leasing, lease: Lease) -> bool:
        step = lease.batch.step
        return step == last or any(other.batch.step > step for other in run.done_by(1))

    waits = {0: others_are_further, 1: the_other_has_work}
    course = train(ServerSettings(mode="bounded", max_staleness=2), 2, last + 1, waits=waits)
    stale = [contribution.staleness for _, _, contribution in course.contributions]
    assert 0 < max(stale) <= 2
    assert all(norm is not None for norm in course.norms)


def test_the_slow_worker_does_less_and_nobody_waits_for_it() -> None:
    waits = {0: lambda run, _: len(run.done_by(1)) >= 50, 1: the_other_has_work}
    course = train(ServerSettings(mode="asynchronous"), 2, 10, waits=waits)
    by_worker = [sum(rank == each for rank, _, _ in course.contributions) for each in (0, 1)]
    assert sum(by_worker) == 10 * 6
    assert by_worker[0] <= 10


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(),
        ServerSettings(shards=2, update_every=6),
        ServerSettings(push_type="bf16"),
        ServerSettings(mode="synchronous", push_type="one_bit", shards=2),
        ServerSettings(mode="bounded", max_staleness=3),
        GossipSettings(),
        GossipSettings(topology="random", average_every=5),
        HogwildSettings(),
    ],
    ids=str,
)
def test_asynchronous_workers_learn(settings: LeasedSettings) -> None:
    """Much of the way that all-reduce makes, though not the same one."""
    course = train(settings, 3, lr=0.05)
    start = torch.cat([p.detach().reshape(-1) for p in replica().buckets[0].parameters])
    assert mean_loss(course.weights) < 0.5 * mean_loss(start)
    done = [(lease.batch.step, lease.number) for _, lease, _ in course.contributions]
    assert len(done) == len(set(done)) == STEPS * 6  # each part once


@pytest.mark.parametrize("size", [1, 511, 512, 1300])
def test_one_bit_pushes_keep_what_they_leave_out(size: int) -> None:
    encode = OneBitPush(size, torch.float64)
    sent, asked = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    draw = torch.Generator().manual_seed(size)
    for _ in range(20):
        gradient = torch.randn(size, generator=draw, dtype=torch.float64)
        pushed = encode(gradient)
        assert pushed.nbytes <= -(-size // 512) * (512 // 8 + 2)
        sent += decode(pushed, size, torch.float64)
        asked += gradient
    torch.testing.assert_close(sent + encode.residual[0, :size], asked)


def mean_loss(weights: torch.Tensor) -> float:
    each = replica()
    place = 0
    for parameter in each.buckets[0].parameters:
        parameter.data = weights[place : place + parameter.numel()].view_as(parameter)
        place += parameter.numel()
    loaded = [micro_batch(1000, spec.index) for spec in global_batch(0).micro_batches]
    return sum(float(result.loss) for result in each.forward_backward(loaded))


def alone_among(connect: Callable[[Address], Line]) -> Any:
    """Worker 0 of two under gossip, without the other."""

    def listen(on_line: Callable[[Line], None]) -> Listener:
        return Listener("secret", "worker", on_line, max_payload=1 << 20)

    worker: Any = GossipSettings().make_worker(LeasedContext(connect, listen, SGD, 0.0, seed=1, rank=0))
    worker.attach(replica())
    worker.join({"members": {"0": ("127.0.0.1", 1), "1": ("127.0.0.1", 1)}})
    return worker


def begin_step(worker: Any, step: int) -> None:
    batch = global_batch(step)
    worker.prepare(Lease(batch, 0, 6, batch.micro_batches[:1], 0.1, 0, 0))


def test_exchanges_do_not_queue_up_behind_a_slow_link() -> None:
    """More of them than one would go on beyond a consistent point, and take it apart."""
    gate = threading.Semaphore(0)

    def connect(address: Address) -> Line:
        assert gate.acquire(timeout=60)
        raise WorkerLost(f"{address}: nobody is there")

    worker = alone_among(connect)
    for turn in (1, 2):
        for step in range(5):
            begin_step(worker, 5 * turn + step)
        gate.release(5)  # the link is free
        worker.rest()
        assert worker.tell()["exchanges"] == turn
        while gate.acquire(blocking=False):
            pass
    worker.close()


def test_exchanges_keep_the_sum() -> None:
    """Without learning (lr 0) any number of exchanges leaves the mean as it was, and brings all closer."""

    def has_exchanged(run: Leasing, rank: int) -> bool:
        return run.members()[rank].strategy._idle.is_set()  # type: ignore[attr-defined,no-any-return]

    waits = {rank: lambda run, _, rank=rank: has_exchanged(run, rank) for rank in range(4)}
    leasing = Leasing(GossipSettings(topology="random"), 4, lr=0.0, waits=waits)
    takes = [member.strategy.take for member in leasing.members()]
    begun = [torch.full_like(leasing.template.state.weights, float(rank)) for rank in range(4)]
    for member, take, own in zip(leasing.members(), takes, begun, strict=True):
        # Each begins somewhere else, whatever the supervisor hands out.
        member.strategy.take = lambda _tensors, updates, take=take, own=own: take([own], updates)  # type: ignore[method-assign]
    gathered: list[torch.Tensor] = []
    gather = leasing.keeper.gather

    def look() -> None:
        for member in leasing.members():
            member.strategy.rest()
        gathered.extend(member.strategy.give()[0][0] for member in leasing.members())
        gather()

    leasing.keeper.gather = look  # type: ignore[method-assign]
    leasing.train(40)
    values = torch.stack(gathered)
    torch.testing.assert_close(values.mean(0), torch.full_like(values[0], 1.5))
    assert float(values.std(0).max()) < 0.7  # 1.29 at the beginning


def test_a_neighbour_that_is_lost_between_the_choice_and_the_question_holds_nobody_up() -> None:
    asked: list[Address] = []

    def connect(address: Address) -> Line:
        asked.append(address)
        raise WorkerLost(f"{address}: nobody is there")

    worker = alone_among(connect)
    choose = worker._choose

    def choose_too_late() -> Any:
        chosen = choose()
        worker.join({"members": {"0": ("127.0.0.1", 1)}})
        return chosen

    worker._choose = choose_too_late
    begin_step(worker, 0)
    assert worker._idle.wait(60)
    worker.rest()
    assert asked == [("127.0.0.1", 1)]
    worker.close()


def test_what_an_exchange_fails_with_is_not_lost() -> None:
    def connect(_: Address) -> Line:
        raise ZeroDivisionError("nobody thought of this")

    worker = alone_among(connect)
    begin_step(worker, 0)
    with pytest.raises(ZeroDivisionError):
        worker.rest()
    worker.close()
