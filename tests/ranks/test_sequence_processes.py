"""One utterance over processes of a gloo group: halos, the ring, and CTC's variables on the wire."""

import torch
import torch.distributed as dist

from hocket.comms.communicator import TorchCommunicator
from processes import run_processes
from sequences import CASES, learn, learn_share

Found = list[tuple[torch.Tensor, torch.Tensor]]


def all_cases() -> tuple[Found, Found, int]:
    """As one of four ranks, and as one of two: each pair learns by itself."""
    four = TorchCommunicator()
    pairs = [dist.new_group([0, 1]), dist.new_group([2, 3])]
    two = TorchCommunicator(pairs[four.rank // 2])
    found = [[learn_share(case, ranks) for case in CASES] for ranks in (four, two)]
    return found[0], found[1], four.bytes_sent


def test_shares_of_processes_add_up_to_the_gradient_of_the_whole() -> None:
    found = run_processes(4, all_cases)
    assert all(num_bytes > 0 for _, _, num_bytes in found)
    groups = [[four for four, _, _ in found]] + [[two for _, two, _ in found[i : i + 2]] for i in (0, 2)]
    for number, case in enumerate(CASES):
        loss, gradient = learn(case)
        for group in groups:
            for cases in group:
                torch.testing.assert_close(cases[number][0], loss, rtol=1e-9, atol=0)
            total = torch.stack([cases[number][1] for cases in group]).sum(0)
            assert float((total - gradient).norm() / gradient.norm()) < 1e-9, case
