"""Collectives among threads: the twin that tests stand on."""

import pytest
import torch

from hocket.comms.communicator import Communicator, ThreadedCommunicator, TorchCommunicator, run_threads
from processes import run_processes

Exchanged = tuple[list[list[int]], list[list[int]], list[int], list[int]]


def test_all_reduce_sums_on_every_rank() -> None:
    def work(ranks: ThreadedCommunicator) -> list[float]:
        x = torch.full((3,), float(ranks.rank + 1))
        ranks.all_reduce(x).wait()
        return x.tolist()

    assert run_threads(3, work) == [[6.0, 6.0, 6.0]] * 3


def exchanged(ranks: Communicator) -> Exchanged:
    """What comes back from every collective, and the bytes that each put on this rank's wire."""
    sent: list[int] = []

    def count() -> None:
        sent.append(ranks.bytes_sent - sum(sent))

    ranks.all_reduce(torch.ones(6, dtype=torch.int32)).wait()
    count()
    parts = torch.tensor(
        [[10 * ranks.rank + other] * 4 for other in range(ranks.world_size)], dtype=torch.uint8
    )
    received = torch.zeros_like(parts)
    ranks.all_to_all(received, parts).wait()
    count()
    gathered = torch.zeros((ranks.world_size, 5), dtype=torch.uint8)
    ranks.all_gather_into(gathered, torch.full((5,), ranks.rank, dtype=torch.uint8)).wait()
    count()
    ranks.broadcast(torch.zeros(7, dtype=torch.uint8), 1 % ranks.world_size)
    count()
    after, before = (ranks.rank + 1) % ranks.world_size, (ranks.rank - 1) % ranks.world_size
    around = torch.zeros((2, 3), dtype=torch.uint8)
    if after != ranks.rank:
        first = ranks.exchange([(after, torch.full((3,), ranks.rank + 1, dtype=torch.uint8))], [])
        rest = ranks.exchange([(after, torch.full((3,), 99, dtype=torch.uint8))], [(before, around[0])])
        last = ranks.exchange([], [(before, around[1])])
        for handle in (last, first, rest):  # they arrive in the order they were asked for
            handle.wait()
    count()
    return received.tolist(), gathered.tolist(), sent, around[:, 0].tolist()


def exchanged_by_processes() -> Exchanged:
    return exchanged(TorchCommunicator())


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("real", [False, True])
def test_every_part_goes_where_it_belongs_and_is_counted(world_size: int, real: bool) -> None:
    if real:
        found = run_processes(world_size, exchanged_by_processes)
    else:
        found = list(run_threads(world_size, exchanged))
    others = world_size - 1
    for rank, (received, gathered, sent, around) in enumerate(found):
        assert received == [[10 * source + rank] * 4 for source in range(world_size)]
        assert gathered == [[source] * 5 for source in range(world_size)]
        broadcast = 7 * others if rank == 1 % world_size else 0
        assert sent == [2 * 24 * others // world_size, 4 * others, 5 * others, broadcast, 6 * (others > 0)]
        assert around == ([(rank - 1) % world_size + 1, 99] if others else [0, 0])


def test_broadcast_and_gather() -> None:
    def work(ranks: ThreadedCommunicator) -> list[float]:
        x = torch.tensor([float(ranks.rank)])
        ranks.broadcast(x, source=2)
        return [*[float(part) for part in ranks.all_gather(torch.tensor([ranks.rank * 10.0]))], float(x)]

    assert run_threads(3, work) == [[0.0, 10.0, 20.0, 2.0]] * 3


def test_the_error_of_one_rank_is_raised_and_frees_the_others() -> None:
    def work(ranks: ThreadedCommunicator) -> None:
        if ranks.rank == 1:
            raise KeyError("one rank failed")
        ranks.barrier()

    with pytest.raises(KeyError, match="one rank failed"):
        run_threads(3, work)
