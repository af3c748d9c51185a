"""Four readers on one cache, killed at random moments: no byte wrong, nothing left locked, within its bound.

python benchmarks/long/storage_kills.py [CORPUS] [--kills 50] [--room 0.5]

CORPUS is prepared with --shards and served over HTTP from here. Readers go through the epochs of training;
each compares every recording's checksum with the index by itself, besides what storage does. The cache has
room for a part of the corpus, so that blocks come and go all the time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from faulty_store import serving
from hocket.batching import BatchPlan, BatchSettings
from hocket.batching.future import Future
from hocket.core.cost import CostModel
from hocket.corpus.block_cache import BlockCache
from hocket.corpus.index import CorpusIndex
from hocket.corpus.prepare import PrepareSettings, prepare
from hocket.corpus.shard_source import StorageSettings
from hocket.corpus.storage import Storage

COST = CostModel(a0=0.0, a=1.0, b=0.0, c=0.0, d=0.0)


def reader(corpus: Path, address: str, cache: Path, room: float, number: int) -> None:
    """Read epochs without end; a dot for each block's worth of recordings, a line for what is wrong."""
    index = CorpusIndex.open(corpus, "train")
    assert index.places is not None
    plan = BatchPlan(index, BatchSettings(seconds=30, pool_steps=4, micro_batches_per_step=4), COST, seed=0)
    settings = StorageSettings(cache=cache, cache_gb=room / 1e9, memory_mb=1)
    first = number * 7  # readers stand at different steps
    storage = Storage([(index, address)], settings, Future(plan, 1_000_000))
    count = 0
    for step in range(first, 1_000_000):
        storage.at(step)
        for spec in plan.global_batch(step).micro_batches:
            for row in spec.rows.tolist():
                data = storage.read(row, in_order=True)
                if data is None or zlib.crc32(data) != int(index.places.crc[row]):
                    sys.stdout.write(f"wrong {row}\n")
                count += 1
                if count % 50 == 0:
                    sys.stdout.write(".\n")
                    sys.stdout.flush()


def kill_readers(corpus: Path, kills: int, share: float) -> None:
    """Run four readers, kill them, and leave with 0 if nothing was wrong."""
    index = CorpusIndex.open(corpus, "train")
    assert index.places is not None
    room = share * float(index.places.block_length.sum())
    draw, begun = random.Random(1), time.monotonic()
    reads = wrong = 0
    with tempfile.TemporaryDirectory() as folder, serving(corpus) as server:
        cache = Path(folder) / "cache"

        def start(number: int) -> tuple[subprocess.Popen[bytes], Path]:
            log = Path(folder) / f"{number}-{time.monotonic_ns()}.log"
            told = [server.address, str(cache), str(room), str(number)]
            command = [sys.executable, __file__, str(corpus), "--reader", *told]
            return subprocess.Popen(command, stdout=log.open("wb")), log

        workers = [start(number) for number in range(4)]
        over = 0
        for kill in range(kills):
            number = kill % 4
            process, log = workers[number]
            while log.stat().st_size < 4:
                assert process.poll() is None, f"reader {number} left with {process.returncode}"
                time.sleep(0.05)
            time.sleep(draw.uniform(0.0, 1.0))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            size = sum(path.stat().st_size for path in cache.glob("*/??/*"))
            over = max(over, size)
            workers[number] = start(number)
        for process, log in workers:  # all go on: no lock is left
            while log.stat().st_size < 4:
                assert process.poll() is None
                time.sleep(0.05)
        for process, _ in workers:
            process.kill()
            process.wait()
        for log in Path(folder).glob("*.log"):
            lines = log.read_text().splitlines()
            wrong += sum(line.startswith("wrong") for line in lines)
            reads += 50 * lines.count(".")
        opened = BlockCache(cache, int(room))
        shelf = opened.shelf(f"train-{index.places.fingerprint}", index.num_blocks, lambda: 0.0, None)
        bad = 0
        for block in range(index.num_blocks):
            data = shelf.get(block)
            stretch = index.places.stretch(block, index.block_starts)
            if data is not None and index.places.damaged(stretch, memoryview(data)):
                bad += 1
        opened.close()
    sys.stdout.write(
        f"{kills} kills in {time.monotonic() - begun:.0f} s: {reads:,} recordings, {wrong} wrong; "
        f"{bad} bad blocks on disk; at most {over:,} bytes of {room:,.0f}\n"
    )
    raise SystemExit(0 if not wrong and not bad and over <= room else 1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path, nargs="?", help="by default a synthetic one, made here")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--room", type=float, default=0.5)
    parser.add_argument("--reader", nargs=4)
    arguments = parser.parse_args()
    if arguments.reader:
        address, cache, room, number = arguments.reader
        reader(arguments.corpus, address, Path(cache), float(room), int(number))
        return
    if arguments.corpus is None:
        with tempfile.TemporaryDirectory() as folder:
            arguments.corpus = Path(folder) / "corpus"
            settings = PrepareSettings(dev_fraction=0, shards=True, shard_mb=4, block_size=16)
            prepare("synthetic:utterances=600", arguments.corpus, settings=settings)
            kill_readers(arguments.corpus, arguments.kills, arguments.room)
    else:
        kill_readers(arguments.corpus, arguments.kills, arguments.room)


if __name__ == "__main__":
    main()
