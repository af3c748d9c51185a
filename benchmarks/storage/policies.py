"""What leaves a cache that is too small: the real one, beside LRU and the furthest next use in simulation.

python -m storage.policies CORPUS [--epochs 4] [--shares 0.25 0.5 0.75]      (in benchmarks/)

CORPUS is prepared with --shards, or is prepared here with blocks of four utterances; it is served over HTTP
by a small server here. The real cache is read through by one process as training would. Simulations run
over the same sequence of blocks, by bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from faulty_store import serving
from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.future import Future
from hocket.core.cost import CostModel
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.shard_source import StorageSettings
from hocket.corpus.storage import Storage

COST = CostModel(a0=0.0, a=1.0, b=0.0, c=0.0, d=0.0)


def lru(trace: list[int], sizes: list[int], room: float) -> int:
    """Bytes fetched when the least recently used leaves."""
    held: OrderedDict[int, int] = OrderedDict()
    used = fetched = 0
    for block in trace:
        if block in held:
            held.move_to_end(block)
            continue
        fetched += sizes[block]
        held[block] = sizes[block]
        used += sizes[block]
        while used > room:
            used -= held.popitem(last=False)[1]
    return fetched


def furthest(trace: list[int], sizes: list[int], room: float) -> int:
    """Bytes fetched when what is needed last leaves, and what is needed later than all is not taken up."""
    next_at: list[float] = [np.inf] * len(trace)
    seen: dict[int, int] = {}
    for place in range(len(trace) - 1, -1, -1):
        next_at[place] = seen.get(trace[place], np.inf)
        seen[trace[place]] = place
    held: dict[int, float] = {}
    used = fetched = 0
    for place, block in enumerate(trace):
        if block not in held:
            fetched += sizes[block]
            used += sizes[block]
        held[block] = next_at[place]
        while used > room:
            last = max(held, key=lambda b: held[b])
            del held[last]
            used -= sizes[last]
    return fetched


def real(
    index: CorpusIndex, address: str, room: float, epochs: int, settings: BatchSettings
) -> tuple[dict[str, int], list[int]]:
    """What storage counted over some epochs, and the sequence of blocks that training asked for."""
    plan = BatchPlan(index, settings, COST, seed=0)
    steps = epochs * plan.steps_per_epoch
    trace: list[int] = []
    with tempfile.TemporaryDirectory() as folder:
        # Nothing stays in memory: what is measured is the disk.
        own = StorageSettings(cache=Path(folder), cache_gb=room / 1e9 / 0.9, memory_mb=1, hedge=False)
        storage = Storage([(index, address)], own, Future(plan, steps))
        for step in range(steps):
            storage.at(step)
            for spec in plan.global_batch(step).micro_batches:
                for row in spec.rows.tolist():
                    storage.read(row, in_order=True)
                    trace.append(int(index.block[row]))
        storage.close()
        size = sum(path.stat().st_size for path in Path(folder).glob("*/??/*"))
    assert size <= room / 0.9, "over its bound"
    total = storage.meter.total
    counted = {"fetched": total.fetched_bytes, "hedged": total.hedged_bytes, "headers": total.overread_bytes}
    return counted, trace


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.75, 1.2])
    parser.add_argument("--step-seconds", type=float, default=15.0)
    parser.add_argument("--pool-steps", type=int, default=1)
    arguments = parser.parse_args()
    if not (arguments.corpus / "corpus.json").is_file():
        # Many small blocks: a cache that holds hundreds of them, as one of a large corpus does.
        folder = Path(tempfile.mkdtemp(prefix="hocket-policies-"))
        prepare(
            str(arguments.corpus),
            folder / "corpus",
            settings=PrepareSettings(dev_fraction=0, block_size=4, shards=True, shard_mb=4, workers=2),
        )
        arguments.corpus = folder / "corpus"
    index = CorpusIndex.open(arguments.corpus, "train")
    assert index.places is not None
    sizes = index.places.block_length.tolist()
    whole = sum(sizes)
    batch = BatchSettings(
        seconds=arguments.step_seconds, pool_steps=arguments.pool_steps, micro_batches_per_step=4
    )
    sys.stdout.write(f"{len(sizes)} blocks, {whole / 1e6:.1f} MB, {arguments.epochs} epochs\n\n")
    sys.stdout.write("| cache | LRU | furthest next use | hocket | of the gap closed | headers |\n")
    sys.stdout.write("| ---: | ---: | ---: | ---: | ---: | ---: |\n")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(arguments.corpus))
        for share in arguments.shares:
            counted, trace = real(index, server.address, share * whole, arguments.epochs, batch)
            worst, best = lru(trace, sizes, share * whole), furthest(trace, sizes, share * whole)
            gap = (worst - counted["fetched"]) / (worst - best) if worst > best else float("nan")
            row = f"| {share:.0%} | {worst / 1e6:.1f} | {best / 1e6:.1f} | {counted['fetched'] / 1e6:.1f} "
            sys.stdout.write(f"{row}| {gap:.1%} | {counted['headers'] / 1e6:.1f} |\n")


if __name__ == "__main__":
    main()
