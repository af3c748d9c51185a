"""Collectives among threads: the twin that tests stand on."""

import pytest
import torch

from hocket.comms.communicator import ThreadedCommunicator, run_threads


def test_all_reduce_sums_on_every_rank_and_counts_bytes() -> None:
    def work(ranks: ThreadedCommunicator) -> tuple[list[float], int]:
        x = torch.full((3,), float(ranks.rank + 1))
        ranks.all_reduce(x).wait()
        ranks.barrier()
        return x.tolist(), ranks.num_bytes

    for values, num_bytes in run_threads(3, work):
        assert values == [6.0, 6.0, 6.0]
        assert num_bytes == 3 * 12


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
