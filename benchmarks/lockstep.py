"""What meeting costs where the work is equal: the ceiling of every synchronous way on this machine.

Two processes of one thread multiply the same matrices and meet (a sum of one number over gloo) again and
again, after so many milliseconds of computing. Nothing is sent that counts and nobody has more to do, so
what is lost is what the machine itself does unevenly: a core that is slower for a moment, by its host, its
clock or its neighbour, delays both. Two processes that never meet lose nothing by it.

The share that is left is the mean of both processes' computing, over the time from meeting to meeting.

    python benchmarks/lockstep.py [--milliseconds 6 25 100 600] [--seconds 20] [--out RESULT.md]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parent))
from tools.training_runs import give, head

RANKS = 2
Round = tuple[float, float]
"""Seconds of computing of this rank, and from one meeting to the next."""


def rank_main(rank: int, store: str, milliseconds: list[float], seconds: float, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{store}", rank=rank, world_size=RANKS)
    frames_TD, weight_DC, back_CD = torch.randn(800, 192), torch.randn(192, 768), torch.randn(768, 192)

    def work(times: int) -> None:
        for _ in range(times):
            frames_TD @ weight_DC @ back_CD

    work(20)
    begin = time.perf_counter()
    work(200)
    each = torch.tensor([(time.perf_counter() - begin) / 200])
    dist.all_reduce(each)  # so that both do as much
    found: list[list[list[Round]]] = []
    for wanted in milliseconds:
        times = max(1, round(wanted / 1e3 / (float(each) / RANKS)))
        mine: list[Round] = []
        dist.barrier()
        met = time.perf_counter()
        for _ in range(max(10, round(seconds / (wanted / 1e3)))):
            before = time.perf_counter()
            work(times)
            computed = time.perf_counter()
            dist.all_reduce(torch.zeros(1))
            mine.append((computed - before, time.perf_counter() - met))
            met = time.perf_counter()
        ranks: list[list[Round]] = [[] for _ in range(RANKS)]
        dist.all_gather_object(ranks, mine)
        found.append(ranks)
    if rank == 0:
        torch.save(found, results)
    dist.destroy_process_group()


def measure(milliseconds: list[float], seconds: float) -> list[list[list[Round]]]:
    """The rounds of each rank, for each length."""
    with tempfile.TemporaryDirectory() as folder:
        results = str(Path(folder, "results"))
        arguments = (str(Path(folder, "store")), milliseconds, seconds, results)
        mp.spawn(rank_main, arguments, nprocs=RANKS)  # type: ignore[no-untyped-call]
        found: list[list[list[Round]]] = torch.load(results)
    return found


def row(ranks: list[list[Round]]) -> str:
    """The table's line for one length."""
    computing = [[own for own, _ in rounds] for rounds in ranks]
    means = [statistics.mean(both) for both in zip(*computing, strict=True)]
    apart = [abs(a - b) for a, b in zip(*computing, strict=True)]
    between = [whole for _, whole in ranks[0]]
    slower = [statistics.mean(own) / statistics.mean(means) for own in computing]
    return (
        f"| {1e3 * statistics.median(means):.1f} | {len(means)} | {1e3 * statistics.median(apart):.2f} "
        f"| {max(slower):.3f} | **{sum(means) / sum(between):.3f}** |"
    )


def main() -> None:
    """Measure, print, and with ``--out`` write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[6.0, 25.0, 100.0, 600.0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each length")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    lines = [
        *head("Two processes with equal work that meet"),
        "| computing between meetings, ms (median) | meetings | apart, ms (median) | slower over mean "
        "| share that is left |",
        "|---|---|---|---|---|",
        *(row(ranks) for ranks in measure(asked.milliseconds, asked.seconds)),
    ]
    give(lines, asked.out)


if __name__ == "__main__":
    main()
